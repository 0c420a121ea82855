/** A feed's broker in a process of its own; answers 'memory' with its resident bytes and its CPU time in us. */
import { Feed } from 'manyhost/feed'

const feed = new Feed({
  endpoints: '127.0.0.1:0',
  identities: { bench: { secret: 'bench', publish: ['c'], subscribe: ['c', 'idle'] } },
  connections: 20_000,
})
const [url] = await feed.listen()
process.on('message', () => {
  globalThis.gc?.()
  const { user, system } = process.cpuUsage()
  process.send({
    rss: process.memoryUsage().rss,
    cpu: user + system,
    connections: feed.connections,
  })
})
process.on('disconnect', () => process.exit())
process.send({ port: Number(url.split(':').pop()) })
