// For your own tests: a cluster in this process, without a port, that misbehaves on purpose. The seed makes the same
// faults come in the same order each time.
import { Session } from 'manyhost'
import { faults, inProcess } from 'manyhost/testing'

const server = inProcess((request, response) => {
  response.end(`${request.headers['x-manyhost-attempt']}`)
})
const provider = faults(server, { seed: 7, abort: { percentage: 30, after: 'headers' } })

const session = new Session({ provider })
session.startup({ url: 'http://flaky', initSize: 3, maxAttempts: 10 })
const client = session.client()

const attempts = []
for (let i = 0; i < 40; i++) {
  const response = await client.get('http://flaky/')
  attempts.push(Number(await response.text()))
}
const { resends } = session.cluster('http://flaky').stats()
console.log(`40 requests, 40 answers; attempts: ${attempts.join(' ')}`)
console.log(`${resends} attempts failed on purpose, and nobody noticed`)

await session.close()
