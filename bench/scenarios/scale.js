/**
 * Large numbers: 1,000 instances, 1,000,000 waiting requests, 100,000 aborts. Instances are fakes in memory, which
 * answer by themselves: what is measured is our own cost. Theory: nothing on a request's way may be O(n) of what waits;
 * p-queue's own order is, for an insertion with priority and for an abort: 29 us at 100,000 and 22 us at 30,000.
 * Targets: a request costs at most 1.5 times as much with 1,000 instances as with 4, and with 1,000,000 waiting as with
 * 10; a waiting request takes under 1 KiB beside its body; 100,000 aborts take under a second.
 */
import { PerformanceObserver } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { Session } from 'manyhost'
import PQueue from 'p-queue'
import { pick } from '../lib/args.js'
import { fake, NullDispatcher } from '../lib/fake.js'
import { closedLoop } from '../lib/load.js'
import { rounds } from '../lib/rounds.js'
import { random } from '../lib/stats.js'
import { ratio, table } from '../lib/table.js'

const url = 'http://calc/add/1/2'
const MANY = pick(200_000, 1_000_000)
const WAITING = 100_000

function cluster(instances, options = {}) {
  const dispatcher = new NullDispatcher()
  const session = new Session({ provider: fake(dispatcher), random: random(1) })
  const service = session.startup({
    url: 'http://calc',
    initSize: instances,
    maxQueue: Number.POSITIVE_INFINITY,
    ...options,
  })
  return { session, service, client: session.client(), dispatcher }
}

async function ready({ service }, count) {
  while (service.instances.filter(({ state }) => state === 'ready').length < count) {
    await new Promise(setImmediate)
  }
}

async function instances() {
  const rows = []
  const cells = [
    ['least-in-flight, 64 in flight', { concurrency: 64 }, 64],
    ['least-in-flight, none idle', { concurrency: 64 }, 'busy'],
    ['peak-ewma, 64 in flight', { concurrency: 64, balance: 'peak-ewma' }, 64],
    ['round-robin, 64 in flight', { concurrency: 64, balance: 'round-robin' }, 64],
    ['affinity, 64 in flight', { concurrency: 64 }, 64, (i) => ({ affinity: `key${i % 100}` })],
  ]
  for (const [name, options, load, per = () => undefined] of cells) {
    const contenders = {}
    const sessions = []
    for (const count of [4, 1_000]) {
      const all = cluster(count, { ...options, maxStarting: 1_000 })
      await ready(all, count)
      sessions.push(all.session)
      let sent = 0
      const send = async () => (await all.client.get(url, per(sent++))).text()
      // `busy`: every instance has a request that does not end, so that no pick ends at an idle one.
      const inFlight = load === 'busy' ? 64 : load
      if (load === 'busy') await occupy(all, count)
      contenders[count] = () => closedLoop(send, inFlight, 100)
    }
    const figures = await rounds(contenders, { count: pick(6, 15, 50), base: '4', warmups: 6 })
    rows.push([name, figures[4].cpu, figures[1_000].cpu, ratio(figures[1_000].ratio.cpu)])
    for (const session of sessions) await session.close({ force: true })
  }
  table('scale: us CPU a request, by instances', ['', '4', '1,000', ''], rows, ['target: x 1.5'])
}

/** Puts one request that is not answered on each instance. */
async function occupy({ client, service, dispatcher }, count) {
  dispatcher.held = true
  for (let i = 0; i < count; i++) client.get(url).catch(() => {})
  dispatcher.held = false
  while (service.inFlight < count) await new Promise(setImmediate)
}

/** Requests pass through one slot while so many others wait: one comes, one goes. */
async function waiting() {
  const rows = []
  const cells = [
    ['one priority', () => undefined],
    ['priorities 0 to 9', (i) => ({ priority: (i * 7) % 10 })],
  ]
  for (const [name, per] of cells) {
    const contenders = {}
    const sessions = []
    for (const count of [10, MANY]) {
      const all = cluster(1)
      all.dispatcher.held = true
      await ready(all, 1)
      sessions.push(all.session)
      let sent = 0
      const send = () => all.client.get(url, per(sent++)).then((response) => response.text())
      for (let i = 0; i <= count; i++) send().catch(() => {})
      contenders[count] = () =>
        steps(() => {
          send().catch(() => {})
          all.dispatcher.answerOne()
        })
    }
    const figures = await rounds(contenders, { count: pick(4, 10), base: '10', warmups: 4 })
    const [few, many] = [figures[10], figures[MANY]]
    rows.push([name, few.cpu, few.gc, many.cpu, many.gc, ratio(many.ratio.cpu)])
    for (const session of sessions) await session.close({ force: true })
  }
  table(
    'scale: us CPU a request, by waiting requests',
    ['', '10', 'of it GC', MANY, 'of it GC', ''],
    rows,
    ['target: x 1.5; GC runs on helper threads as well, which the CPU time counts'],
  )
}

/** CPU of one step, in us, the microtasks that it causes included. */
async function steps(step) {
  const count = 20_000
  collected = 0
  const cpu = process.cpuUsage()
  for (let i = 0; i < count; i++) {
    step()
    if (i % 64 === 0) await new Promise(setImmediate)
  }
  const { user, system } = process.cpuUsage(cpu)
  // What was observed is told a turn later.
  await sleep(10)
  return { cpu: (user + system) / count, gc: (1_000 * collected) / count }
}

/** ms of garbage collection. */
let collected = 0
new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) collected += duration
}).observe({ entryTypes: ['gc'] })

function heap() {
  globalThis.gc?.()
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}

async function memory() {
  const rows = []
  const signals = () => ({ signal: new AbortController().signal })
  for (const [name, per] of [
    ['client.get(url)', () => undefined],
    ['with priority', (i) => ({ priority: i % 10 })],
    ['with a signal of its own', signals],
  ]) {
    const all = cluster(0)
    const send = (i) => {
      all.client.get(url, per(i)).catch(() => {})
    }
    for (let i = 0; i < 1_000; i++) send(i)
    const before = heap()
    for (let i = 0; i < WAITING; i++) send(i)
    rows.push([name, Math.round((heap() - before) / WAITING)])
    await all.session.close({ force: true })
  }
  const alone = {
    '(such a signal alone)': signals,
    '(a promise that waits, and its catch, alone)': () => {
      let settle
      const promise = new Promise((resolve, reject) => {
        settle = { resolve, reject }
      })
      promise.catch(() => {})
      return settle
    },
  }
  for (const [name, make] of Object.entries(alone)) {
    await sleep(100)
    const before = heap()
    const kept = Array.from({ length: WAITING }, make)
    rows.push([name, Math.round((heap() - before) / kept.length)])
  }
  table(`scale: bytes of heap a waiting request, ${WAITING} of them`, ['', 'bytes'], rows, [
    'target: 1,024',
  ])
}

async function aborts() {
  const all = cluster(0)
  const controllers = Array.from({ length: WAITING }, () => new AbortController())
  const begun = performance.now()
  const ends = controllers.map(({ signal }, i) =>
    all.client.get(url, { signal, priority: i % 10 }).catch(() => {}),
  )
  const joined = performance.now() - begun
  const cut = performance.now()
  for (const controller of controllers) controller.abort()
  await Promise.all(ends)
  const rows = [
    ['manyhost: join with priority', WAITING, joined],
    ['manyhost: abort', WAITING, performance.now() - cut],
  ]
  const bare = controllers.map(() => new AbortController())
  for (const { signal } of bare) signal.addEventListener('abort', () => {}, { once: true })
  const alone = performance.now()
  for (const controller of bare) controller.abort()
  rows.push(['(AbortController.abort alone)', WAITING, performance.now() - alone])
  await all.session.close({ force: true })
  rows.push(...(await queueAlone(pick(10_000, 30_000))))
  table(
    'scale: aborts of waiting requests',
    ['', 'requests', 'ms', 'us each'],
    rows.map(([name, count, ms]) => [name, count, ms, (1_000 * ms) / count]),
    ['target: 100,000 in 1,000 ms'],
  )
}

/** p-queue's own order, beside it. */
async function queueAlone(count) {
  const queue = new PQueue({ concurrency: 1, autoStart: false })
  const controllers = Array.from({ length: count }, () => new AbortController())
  const begun = performance.now()
  const ends = controllers.map(({ signal }, i) =>
    queue.add(async () => {}, { signal, priority: i % 10 }).catch(() => {}),
  )
  const joined = performance.now() - begun
  const cut = performance.now()
  for (const controller of controllers) controller.abort()
  await Promise.all(ends)
  return [
    ['p-queue alone: join with priority', count, joined],
    ['p-queue alone: abort', count, performance.now() - cut],
  ]
}

await instances()
await waiting()
await memory()
await aborts()
process.exit()
