// The third: merge several brokers, decode, filter, encode, and publish it all to another. Clients are async
// iterables, so Node's own stream helpers do what aiostream does there.
import { PassThrough, Readable } from 'node:stream'
import { FeedClient } from 'manyhost/feed'
import { openBroker } from './broker.js'

const identity = { host: 'localhost', ident: 'ident', secret: 'secret' }
const inputs = await Promise.all([openBroker(), openBroker(), openBroker()])
const output = await openBroker()

const clients = inputs.map(({ port }) => new FeedClient({ port, ...identity }))
for (const client of clients) client.subscribe('in-channel')

/** What comes of any of them, as it comes. */
function merge(sources) {
  const merged = new PassThrough({ objectMode: true })
  const flows = sources.map(async (source) => {
    for await (const message of source) {
      if (!merged.write(message)) await new Promise((resolve) => merged.once('drain', resolve))
    }
  })
  Promise.all(flows).then(
    () => merged.end(),
    (error) => merged.destroy(error),
  )
  return merged
}

const combined = Readable.from(merge(clients))
  // Decode JSON payload
  .map(({ payload }) => JSON.parse(payload.toString()))
  // Only interested in events that have hashes associated with them
  .filter(({ hashes }) => hashes.length > 0)
  // Encode payload for transmission
  .map((event) => JSON.stringify(event))

const out = new FeedClient({ port: output.port, ...identity })
let heard = 0
const allHeard = new Promise((resolve) => {
  output.feed.subscribe('out-channel', ({ payload }) => {
    console.log(`out: ${payload}`)
    if (++heard === 3) resolve()
  })
})
const done = out.publishFrom('out-channel', combined)

await Promise.all(clients.map((client) => client.ready()))
for (const [index, { feed }] of inputs.entries()) {
  feed.publish('in-channel', JSON.stringify({ broker: index, hashes: [] }))
  feed.publish('in-channel', JSON.stringify({ broker: index, hashes: ['d41d8cd98f00b204'] }))
}
await allHeard
for (const client of clients) await client.close()
console.log(`published: ${await done}`)
await out.close()
for (const { feed } of [...inputs, output]) await feed.close()
