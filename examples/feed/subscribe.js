// The second: hear a channel, for ever; here until the third message.
import { FeedClient } from 'manyhost/feed'
import { openBroker } from './broker.js'

const { feed, port } = await openBroker()
const client = new FeedClient({ host: 'localhost', port, ident: 'ident', secret: 'secret' })
client.subscribe('channel')
await client.ready()

for (const text of ['one', 'two', 'three']) client.publish('channel', text)
let count = 0
for await (const { ident, channel, payload } of client) {
  console.log(`${channel} ${ident}: ${payload}`)
  if (++count === 3) break
}
await client.close()
await feed.close()
