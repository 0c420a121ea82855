/**
 * CPU of one request without any network: what manyhost adds to undici. All go to a dispatcher that answers by itself
 * in the next turn of the event loop, 64 in flight. Theory: `Pool.dispatch` costs 14 us with its socket; the dispatcher
 * API alone, `request`, is the floor here, and undici's fetch what most people pay.
 */
import { Session } from 'manyhost'
import { fetch, request } from 'undici'
import { pick } from '../lib/args.js'
import { fake, NullDispatcher } from '../lib/fake.js'
import { closedLoop } from '../lib/load.js'
import { rounds } from '../lib/rounds.js'
import { ratio, table } from '../lib/table.js'

const nothing = new NullDispatcher()
const session = new Session({ provider: fake(nothing) })
session.startup({ url: 'http://calc', initSize: 4, concurrency: 32 })
const client = session.client()
const dispatcher = session.dispatcher()
const url = 'http://calc/add/1/2'
const text = async ({ body }) => body.text()

const ways = {
  'undici request, null dispatcher': () => request(url, { dispatcher: nothing }).then(text),
  'manyhost client.get().text()': async () => (await client.get(url)).text(),
  'manyhost client.post({ json })': async () => (await client.post(url, { json: { a: 1 } })).text(),
  'manyhost dispatcher(), undici.request': () => request(url, { dispatcher }).then(text),
  'undici fetch, null dispatcher': async () => (await fetch(url, { dispatcher: nothing })).text(),
  'manyhost session.fetch': async () => (await session.fetch(url)).text(),
}
const figures = await rounds(
  Object.fromEntries(
    Object.entries(ways).map(([name, send]) => [name, () => closedLoop(send, 64, 100)]),
  ),
  { count: pick(8, 40, 150), base: 'undici request, null dispatcher', warmups: 10 },
)
table(
  'overhead: no network, 64 in flight',
  ['', 'us CPU/req', 'req/s', 'CPU beside request'],
  Object.entries(figures).map(([name, { cpu, rate, ratio: beside }]) => [
    name,
    cpu,
    Math.round(rate),
    ratio(beside.cpu),
  ]),
)
await session.close({ force: true })
process.exit()
