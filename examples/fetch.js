// Any user of undici, and Node's own fetch, by the dispatcher: nothing else of their code changes.
import { fileURLToPath } from 'node:url'
import { Session } from 'manyhost'
import { request } from 'undici'

const server = fileURLToPath(new URL('./calculator-server.js', import.meta.url))

const session = new Session()
process.once('SIGINT', () => void session.close().then(() => process.exit(130)))
session.startup({ url: 'http://calc', command: ['node', server], initSize: 2 })
const dispatcher = session.dispatcher()

const viaNode = await fetch('http://calc/add/1/2', { dispatcher })
console.log(`Node's fetch: ${await viaNode.text()}`)

const { body } = await request('http://calc/mul/3/4', { dispatcher })
console.log(`undici's request: ${await body.text()}`)

const viaSession = await session.fetch('http://calc/sub/9/4')
console.log(`the session's own fetch: ${await viaSession.text()}`)

await session.close()
