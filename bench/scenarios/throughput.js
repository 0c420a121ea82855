/**
 * Requests a second that one core can send, against four servers that answer at once, beside undici's own ways over
 * the same connections. Theory: a request through undici costs 14 us of CPU (`Pool.dispatch`); what it costs beyond
 * that is ours. Targets: at least BalancedPool.request, 5 times undici's fetch; alone at most 25 us over Pool.request.
 */
import { Session } from 'manyhost'
import { fixed } from 'manyhost/providers/static'
import { BalancedPool, fetch, Pool, request } from 'undici'
import { pick } from '../lib/args.js'
import { closedLoop } from '../lib/load.js'
import { proxiesFound, startProxy } from '../lib/proxies.js'
import { rounds } from '../lib/rounds.js'
import { startServers } from '../lib/servers.js'
import { ratio, table } from '../lib/table.js'

const SLOTS = 16
/** Short rounds and many: what disturbs one contender then disturbs its neighbours as well. */
const MS = 100
const ROUNDS = pick(8, 40, 150)

const servers = await startServers('canned', 4)
const { urls } = servers
const session = new Session({ provider: fixed({ urls }) })
session.startup({ url: 'http://calc', initSize: 4, concurrency: SLOTS })
const client = session.client()
const dispatcher = session.dispatcher()
const balanced = new BalancedPool(urls, { connections: SLOTS })
const pool = new Pool(urls[0], { connections: 4 * SLOTS })
const get = { path: '/add/1/2', method: 'GET' }
const text = async ({ body }) => body.text()

const ways = {
  'manyhost client.get().text()': async () => (await client.get('http://calc/add/1/2')).text(),
  'manyhost dispatcher(), undici.request': () =>
    request('http://calc/add/1/2', { dispatcher }).then(text),
  'manyhost session.fetch': async () => (await session.fetch('http://calc/add/1/2')).text(),
  'undici BalancedPool.request': () => balanced.request(get).then(text),
  'undici Pool.request, one server': () => pool.request(get).then(text),
  'undici fetch over BalancedPool': async () =>
    (await fetch('http://calc/add/1/2', { dispatcher: balanced })).text(),
}
const fronts = []
for (const name of proxiesFound()) {
  const front = await startProxy(name, urls)
  const through = new Pool(front.url, { connections: 4 * SLOTS })
  ways[`Pool.request through ${name}`] = () => through.request(get).then(text)
  fronts.push(front)
}

async function measure(inFlight, base) {
  const contenders = Object.fromEntries(
    Object.entries(ways).map(([name, send]) => [name, () => closedLoop(send, inFlight, MS)]),
  )
  return rounds(contenders, { count: ROUNDS, base, warmups: pick(4, 10) })
}

const many = await measure(64, 'undici BalancedPool.request')
const byFetch = many['undici fetch over BalancedPool']
table(
  'throughput, 64 in flight, 4 servers of 16 slots',
  ['', 'req/s', 'us CPU/req', 'beside BalancedPool', 'by CPU', 'beside fetch'],
  Object.entries(many).map(([name, { rate, cpu, ratio: beside }]) => [
    name,
    Math.round(rate),
    cpu,
    ratio(beside.rate),
    ratio(1 / beside.cpu),
    ratio(rate / byFetch.rate),
  ]),
  ['targets of client.get().text(): x 1.00 beside BalancedPool, x 5 beside fetch'],
)

const one = await measure(1, 'undici Pool.request, one server')
const { wall } = one['undici Pool.request, one server']
table(
  'throughput, 1 in flight',
  ['', 'us/req', 'us CPU/req', 'us more than Pool.request'],
  Object.entries(one).map(([name, figures]) => [
    name,
    figures.wall,
    figures.cpu,
    figures.ratio.wall * wall - wall,
  ]),
  ['target of client.get().text(): at most 25 us more'],
)

for (const front of fronts) await front.stop()
await session.close({ force: true })
await servers.stop()
process.exit()
