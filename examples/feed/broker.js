// What the three programs beside this one have in common: a broker with what they may say and hear. In life it is
// somewhere else: `manyhost feed broker --auth people.yaml`, hpfeeds-broker, or the feed of a fleet.
import { Feed } from 'manyhost/feed'

/** Resolves with a broker on a free port, and with that port. */
export async function openBroker() {
  const feed = new Feed({
    endpoints: '127.0.0.1:0',
    identities: {
      ident: {
        secret: 'secret',
        publish: ['channel', 'in-channel', 'out-channel'],
        subscribe: ['channel', 'in-channel', 'out-channel'],
      },
    },
  })
  const [url] = await feed.listen()
  return { feed, port: Number(new URL(url).port) }
}
