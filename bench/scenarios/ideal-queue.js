/**
 * How far each way of sending is from the ideal queue: 16 instances of one slot, Poisson arrivals, exponential 50 ms
 * service, load 0.8 and 0.9. Theory: first come, first served from one queue (M/M/16) has the least waiting; a
 * balancer that chooses an instance at once lets requests wait behind busy ones while others are idle.
 *
 * The measure is paired: each arrival, and the time that its service really took, go through the recursion
 * `start = max(arrival, earliest free slot)`, and what was measured minus that has no sampling error. Contenders run
 * side by side in two groups, each on 16 servers of its own, with the same arrivals and the same service times.
 * BalancedPool is there twice: as it comes, and with one connection each, by which it becomes a central queue, too.
 * Targets: p99 of measured minus ideal under 5 ms; idle slots while requests wait under 1 %.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Session } from 'manyhost'
import { fixed } from 'manyhost/providers/static'
import { BalancedPool, Pool } from 'undici'
import { pick } from '../lib/args.js'
import { fcfs, idleWhileWaiting } from '../lib/ideal.js'
import { openLoop } from '../lib/load.js'
import { startServers } from '../lib/servers.js'
import { mean, median, poisson, quantile, random } from '../lib/stats.js'
import { percent, table } from '../lib/table.js'

const SLOTS = 16
const SERVICE = 50
const COUNT = pick(2_000, 6_000, 20_000)

/** The undici ways: each gives what a request is sent to. */
const balancers = {
  random: (urls) => {
    const pools = urls.map((url) => new Pool(url))
    const next = random(1)
    return () => pools[Math.floor(next() * pools.length)]
  },
  'round robin': (urls) => {
    const pools = urls.map((url) => new Pool(url))
    let turn = 0
    return () => pools[turn++ % pools.length]
  },
  'two choices': (urls) => {
    const pools = urls.map((url) => new Pool(url))
    const next = random(2)
    return () => {
      const one = pools[Math.floor(next() * pools.length)]
      const two = pools[Math.floor(next() * pools.length)]
      return two.stats.running < one.stats.running ? two : one
    }
  },
  'undici BalancedPool': (urls) => {
    const pool = new BalancedPool(urls)
    return () => pool
  },
  'undici BalancedPool, connections: 1': (urls) => {
    const pool = new BalancedPool(urls, { connections: 1 })
    return () => pool
  },
}

async function contenders() {
  const servers = await startServers(
    'slots',
    (Object.keys(balancers).length + 1) * SLOTS,
    'one',
    `exponential:${SERVICE}`,
  )
  const group = (index) => servers.urls.slice(index * SLOTS, (index + 1) * SLOTS)
  const session = new Session({ provider: fixed({ urls: group(0) }) })
  session.startup({ url: 'http://calc', initSize: SLOTS, concurrency: 1 })
  const client = session.client()
  const ways = {
    manyhost: async (id) => {
      const response = await client.get('http://calc/', { headers: ['x-request-id', id] })
      await response.text()
      return [response.rawHeader('x-begun'), response.rawHeader('x-ended')]
    },
  }
  for (const [index, [name, make]] of Object.entries(balancers).entries()) {
    const choose = make(group(index + 1))
    ways[name] = async (id) => {
      const pool = choose()
      const { headers, body } = await pool.request({
        path: '/',
        method: 'GET',
        headers: ['x-request-id', id],
      })
      await body.text()
      return [headers['x-begun'], headers['x-ended']]
    }
  }
  const stop = async () => {
    await session.close({ force: true })
    await servers.stop()
  }
  return { ways, stop }
}

const ms = (nanoseconds) => Number(nanoseconds) / 1e6

async function sendAll(send, times) {
  return openLoop(times, async (index) => {
    const arrival = ms(process.hrtime.bigint())
    const [begun, ended] = await send(`r${index}`)
    return { arrival, begun: ms(begun), ended: ms(ended), done: ms(process.hrtime.bigint()) }
  })
}

/** Those that come near the ideal by themselves: the others would take the processor's time from them. */
const NEAR = new Set(['manyhost', 'undici BalancedPool, connections: 1'])

const { ways, stop } = await contenders()
for (let i = 0; i < pick(200, 600); i++) {
  await Promise.all(Object.values(ways).map((send) => send(`warm${i}`)))
}
// All connections of all contenders, before the clock runs.
await Promise.all(
  Object.values(ways).flatMap((send) => Array.from({ length: 32 }, () => send('warm'))),
)

for (const load of [0.8, 0.9]) {
  const times = poisson(COUNT, (1_000 * SLOTS * load) / SERVICE, 42)
  const names = Object.keys(ways)
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const runs = {}
  for (const near of [true, false]) {
    const group = names.filter((name) => NEAR.has(name) === near)
    const done = await Promise.all(group.map((name) => sendAll(ways[name], times)))
    for (const [index, name] of group.entries()) runs[name] = done[index]
  }
  const rows = names.map((name) => {
    const run = runs[name]
    const ideal = fcfs(run, SLOTS)
    const taken = run.map(({ arrival, done }) => done - arrival)
    const over = taken.map((time, i) => time - ideal[i])
    const { strict, possible } = idleWhileWaiting(run, SLOTS)
    return [
      name,
      mean(taken) / SERVICE,
      quantile(taken, 0.99) / SERVICE,
      mean(over),
      median(over),
      quantile(over, 0.99),
      percent(possible),
      percent(strict),
    ]
  })
  const first = fcfs(runs.manyhost, SLOTS)
  rows.push([
    'the ideal queue',
    mean(first) / SERVICE,
    quantile(first, 0.99) / SERVICE,
    0,
    0,
    0,
    percent(0),
    percent(0),
  ])
  table(
    `ideal-queue, load ${load}, ${COUNT} requests; times in ms, response times in mean services`,
    ['', 'mean', 'p99', 'over ideal: mean', 'p50', 'p99', 'idle & wanted', 'idle while any waits'],
    rows,
    [
      `this machine: a timer of 1 ms took ${(delay.percentile(99) / 1e6).toFixed(1)} ms (p99), ${(delay.max / 1e6).toFixed(0)} at most; what stalls all, stalls each contender`,
      'over ideal: measured minus the FCFS recursion over the same arrivals and service times; target p99 < 5 ms',
      'idle & wanted: slot-seconds that a waiting request could have had, min(idle, waiting); target < 1 %',
    ],
  )
}
await stop()
process.exit()
