/**
 * Instances that die under load: 4 instances, 50 ms service, 200 POST/s. A request is lost if it is not answered 200
 * with its own id and all its bytes counted. Theory: an answer that never came says nothing of whether the request was
 * executed, so who loses none must execute some twice; and p99 is one more service time plus the detection.
 * Targets: 0 lost in every cell; every request that the servers' journals show twice is in our own count.
 */
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { Session } from 'manyhost'
import { BalancedPool, Pool, RetryAgent } from 'undici'
import { pick } from '../lib/args.js'
import { onServerCore } from '../lib/cores.js'
import { Journals } from '../lib/journals.js'
import { openLoop } from '../lib/load.js'
import { proxiesFound, startProxy } from '../lib/proxies.js'
import { respawning } from '../lib/respawner.js'
import { serverScript } from '../lib/servers.js'
import { poisson, quantile, random } from '../lib/stats.js'
import { percent, table } from '../lib/table.js'

const SECONDS = pick(2, 8, 20)
const SIZE = 4
/** Bodies that are sent through proxies as well. */
const PROXIED = pick([], ['64 KB'], ['1 KB', '64 KB', '64 KB streamed'])
const URL = 'http://calc'

const chunk = Buffer.alloc(16_384, 'x')
const bodies = {
  '1 KB': { bytes: 1_024, make: () => Buffer.alloc(1_024, 'x') },
  '64 KB': { bytes: 65_536, make: () => Buffer.alloc(65_536, 'x') },
  '64 KB streamed': { bytes: 65_536, make: () => Readable.from([chunk, chunk, chunk, chunk]) },
}

const faults = {
  'one killed -9 each 500 ms': { each: 500, signal: 'SIGKILL', which: 'one' },
  'all killed -9 each 2 s': { each: 2_000, signal: 'SIGKILL', which: 'all' },
  'one SIGSTOPped each 500 ms': { each: 500, signal: 'SIGSTOP', which: 'one' },
  'resized each second': { each: 1_000 },
}

/** Sends the load while `strike` is called; `send(id, body)` answers { id, bytes, attempts }. */
async function run({ each, strike, send, body }) {
  const next = random(each)
  const striking = setInterval(() => strike(next), each)
  const results = await openLoop(poisson(200 * SECONDS, 200, 5), async (index) => {
    const begun = performance.now()
    const id = `r${index}`
    try {
      const answer = await Promise.race([send(id, body.make()), sleep(20_000, {}, { ref: false })])
      const ok = answer.id === id && answer.bytes === body.bytes
      if (!ok) why.add(JSON.stringify(answer))
      return { id, ok, attempts: answer.attempts ?? 1, time: performance.now() - begun }
    } catch (error) {
      why.add(`${error.code} ${error.message}`.slice(0, 300))
      return { id, ok: false, attempts: 1, time: performance.now() - begun }
    }
  })
  clearInterval(striking)
  return results
}

/** Why requests were lost. */
const why = new Set()

function row(who, what, bodyName, results, journals, counted) {
  const executions = journals.executions()
  const twice = [...executions].filter(([, count]) => count > 1).map(([id]) => id)
  const known = new Set(results.filter(({ attempts }) => attempts > 1).map(({ id }) => id))
  const times = results.filter(({ ok }) => ok).map(({ time }) => time)
  const lost = results.filter(({ ok }) => !ok).length
  return [
    who,
    what,
    bodyName,
    results.length,
    lost,
    percent(lost / results.length),
    twice.length,
    counted ?? '',
    counted === undefined ? '' : twice.filter((id) => !known.has(id)).length,
    quantile(times, 0.5),
    quantile(times, 0.99),
  ]
}

async function ours(what, bodyName) {
  const { each, signal, which } = faults[what]
  const journals = new Journals()
  const session = new Session()
  const cluster = session.startup({
    url: URL,
    command: onServerCore([process.execPath, serverScript('journal')]),
    env: { JOURNAL: journals.path },
    initSize: SIZE,
    concurrency: 16,
    ...(signal === 'SIGSTOP' && { health: { path: '/health', interval: 100, threshold: 2 } }),
  })
  const client = session.client({ timeout: 20_000 })
  while (cluster.instances.filter(({ state }) => state === 'ready').length < SIZE) await sleep(5)
  const results = await run({
    each,
    body: bodies[bodyName],
    strike: (next) => {
      if (signal) journals.strike(signal, which, next)
      else session.setSize(URL, 1 + Math.floor(next() * 2 * SIZE))
    },
    send: async (id, body) => {
      const response = await client.post(URL, { body, headers: ['x-request-id', id] })
      return { ...(await response.json()), attempts: response.timing.attempts.length }
    },
  })
  const counted = await session.metrics.getSingleMetric('manyhost_executed_twice_total').get()
  await session.close({ force: true })
  const cells = row('manyhost', what, bodyName, results, journals, counted.values[0]?.value ?? 0)
  journals.remove()
  return cells
}

async function theirs(what, bodyName, who, connect) {
  const { each, signal, which } = faults[what]
  const journals = new Journals()
  const servers = await respawning(SIZE, journals)
  const { request, stop } = await connect(servers.urls)
  const results = await run({
    each,
    body: bodies[bodyName],
    strike: (next) => journals.strike(signal, which, next),
    send: async (id, body) => {
      const response = await request({
        path: '/',
        method: 'POST',
        headers: { 'x-request-id': id },
        body,
      })
      return response.body.json()
    },
  })
  await stop()
  await servers.stop()
  const cells = row(who, what, bodyName, results, journals)
  journals.remove()
  return cells
}

const METHODS = ['GET', 'POST']

async function retryAgent(urls) {
  const pool = new BalancedPool(urls)
  const agent = new RetryAgent(pool, {
    methods: METHODS,
    maxRetries: 10,
    minTimeout: 20,
    maxTimeout: 500,
  })
  return { request: (options) => agent.request(options), stop: () => pool.destroy() }
}

/** @param name of a proxy */
function through(name) {
  return async (urls) => {
    const front = await startProxy(name, urls)
    const pool = new Pool(front.url)
    const stop = async () => {
      await pool.destroy()
      await front.stop()
    }
    return { request: (options) => pool.request(options), stop }
  }
}

const found = proxiesFound()
const rows = []
for (const what of Object.keys(faults)) {
  for (const bodyName of Object.keys(bodies)) {
    rows.push(await ours(what, bodyName))
    if (faults[what].signal !== 'SIGKILL') continue
    rows.push(await theirs(what, bodyName, 'RetryAgent, BalancedPool', retryAgent))
    if (!PROXIED.includes(bodyName)) continue
    for (const name of found) rows.push(await theirs(what, bodyName, name, through(name)))
  }
}

table(
  `kill: ${SIZE} instances, 200 POST/s for ${SECONDS} s a cell, 50 ms service`,
  [
    '',
    'fault',
    'body',
    'requests',
    'lost',
    '',
    'executed twice',
    'our count',
    'missed',
    'p50 ms',
    'p99 ms',
  ],
  rows,
  [
    'targets: lost 0; missed 0 (executed twice by the journals, but one attempt by response.timing)',
    'our count is of requests put on two connections: a server that died before it read one has no journal of it',
    'beside us: servers on fixed ports, started again at once',
    ...[...why].slice(0, 12).map((text) => `lost: ${text}`),
  ],
)
process.exit()
