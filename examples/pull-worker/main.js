/**
 * Workers that nobody can connect to, so they ask for their work: one in plain shell with curl, and one in JavaScript. This
 * program sends ordinary requests to a virtual URL. `node examples/pull-worker/main.js`
 */
import { spawn, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Session } from 'manyhost'
import { workers } from 'manyhost/providers/pull'

const here = (file) => fileURLToPath(new URL(file, import.meta.url))
const token = 'a secret of this example'.replaceAll(' ', '-')
const schema = {
  type: 'object',
  properties: { text: { type: 'string', maxLength: 1_000 } },
  required: ['text'],
}
const provider = workers({
  listen: 0,
  token,
  services: { 'http://words': { jobRegistrationSchema: schema, timeout: 30_000 } },
})
const session = new Session({ provider })
session.startup({ url: 'http://words' })
const { url } = await provider.ready()
const service = `${url}/services/${await provider.serviceId('http://words')}`

const hasCurl = spawnSync('curl', ['--version']).status === 0
if (!hasCurl) console.log('!!! no curl here: the worker in shell is left out')
const start = (command, ...args) =>
  spawn(command, [...args, service], {
    env: { ...process.env, MANYHOST_TOKEN: token, POLL: '0.2' },
    stdio: ['ignore', 'inherit', 'inherit'],
  })
const children = [start(process.execPath, here('worker.js'))]
if (hasCurl) children.push(start('sh', here('worker.sh')))

const client = session.client({ timeout: 30_000 })
const texts = ['one', 'two words', 'and now three', 'four is four words']
const counts = []
const seen = new Set()
// Until each worker has had a request: the worker that asks first gets the next one.
for (let i = 0; i < texts.length || seen.size < children.length; i++) {
  const burst = Array.from({ length: 4 }, () =>
    client.post('http://words', { json: { text: texts[i % texts.length] } }),
  )
  for (const response of await Promise.all(burst)) {
    const { words, by } = await response.json()
    seen.add(by.split('-')[0])
    if (counts.length < 4 * texts.length) counts.push(words)
  }
}
console.log(`words: ${counts.join(' ')}`)
console.log(`by: ${[...seen].sort().join(' ')}`)
const refused = await client.post('http://words', { json: { text: 7 } })
const { errors } = await refused.json()
console.log(`refused: ${refused.status} ${errors[0].detail}`)

for (const child of children) child.kill('SIGTERM')
await client.close()
await session.close()
