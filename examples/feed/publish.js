// The first program of the ancestor's client reference: publish one message, and go.
import { FeedClient } from 'manyhost/feed'
import { openBroker } from './broker.js'

const { feed, port } = await openBroker()
feed.subscribe('channel', ({ ident, payload }) => console.log(`heard of ${ident}: ${payload}`))

const client = new FeedClient({ host: 'localhost', port, ident: 'ident', secret: 'secret' })
client.publish('channel', '{"data": "fefefefefefef"}')
// Sends what waits; throws if the broker refused it. `await using client = ...` does the same at the end of a block.
await client.close()
await feed.close()
