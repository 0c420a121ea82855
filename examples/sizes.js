// How many instances: an integer, a function, a class, anything that can be read as a number; to zero and back.
import { fileURLToPath } from 'node:url'
import { IdleToZero, Session } from 'manyhost'

const server = fileURLToPath(new URL('./calculator-server.js', import.meta.url))

const session = new Session({ tickInterval: 50 })
process.once('SIGINT', () => void session.close().then(() => process.exit(130)))
const cluster = session.startup({ url: 'http://calc', command: ['node', server], initSize: 0 })
const client = session.client()

const ready = () => cluster.instances.filter(({ state }) => state === 'ready').length
const until = async (condition) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10))
}

session.setSize('http://calc', 2)
await until(() => ready() === 2)
console.log('an integer: 2')

session.setSize('http://calc', ({ requestQueue }) => (requestQueue.size > 7 ? 3 : 1))
const burst = []
await until(() => {
  // As long as it takes the third to come up: a burst that is over before would not have needed it.
  if (cluster.requestQueue.size < 20) {
    for (let i = 0; i < 20; i++) burst.push(client.get(`http://calc/add/${i}/1`))
  }
  return ready() === 3
})
console.log('a function of the queue: 3 while more than 7 requests wait')
await Promise.all(burst)
await until(() => cluster.instances.length === 1)
console.log('... and 1 when they are done')

class Two {
  [Symbol.toPrimitive]() {
    return 2
  }
}
session.setSize('http://calc', Two)
await until(() => ready() === 2)
console.log('a class: 2')

session.setSize('http://calc', (c) => new IdleToZero(c, { active: 1, idleAfter: 200 }))
await until(() => cluster.instances.length === 0)
console.log('idle: 0')
const response = await client.get('http://calc/mul/6/7')
console.log(`a request wakes it up: ${await response.text()}`)

await session.close()
