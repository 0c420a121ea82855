/**
 * Tasks from a source to their outcome in the store, beside `xargs -P` and, where it is installed, GNU parallel, in the same
 * rounds. Theory: a task costs one insertion, one claim and one outcome in SQLite (in bundles), some 200 us of Node in
 * the runner, and its processes: a line that is one program needs no shell of its own here. Targets: shell tasks at 0.8 of `xargs -P` with the store on; request
 * tasks at 10,000/s with bundles of 100; a task that comes to an idle server starts within 20 ms.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { processes } from '../../dist/providers/process/index.js'
import { Session } from '../../dist/src/index.js'
import { openStore, runCluster, serveFrom } from '../../dist/src/tasks.js'
import { pick } from '../lib/args.js'
import { serverScript } from '../lib/servers.js'
import { median } from '../lib/stats.js'
import { table } from '../lib/table.js'

const TASKS = pick(1_000, 3_000, 10_000)
const REQUESTS = pick(5_000, 20_000, 100_000)
const WARM = pick(1_000, 10_000, 10_000)
const ROUNDS = pick(3, 5, 7)
const NUM_TASKS = 2
const folder = mkdtempSync(join(tmpdir(), 'manyhost-bench-'))
let files = 0

function checked(counts, total) {
  if (counts.succeeded !== total) throw new Error(`${counts.succeeded} of ${total} succeeded`)
}

async function viaStore(line, options) {
  const store = options.inMemory ? undefined : await openStore(join(folder, `${++files}.db`))
  // The runner is up before the clock runs: xargs has none to start.
  const session = new Session({ provider: processes() })
  const run = runCluster(feeding(), {
    numTasks: NUM_TASKS,
    session,
    ...(store && { store }),
    ...options,
  })
  let begin
  const gate = new Promise((resolve) => {
    begin = resolve
  })
  async function* feeding() {
    yield line
    await gate
    for (let i = 1; i < TASKS; i++) yield line
  }
  await run.ready
  while (run.counts.succeeded === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  const begun = performance.now()
  const at = run.finally(() => {})
  begin()
  while (run.counts.succeeded < TASKS) await new Promise((resolve) => setTimeout(resolve, 2))
  const rate = (TASKS - 1) / ((performance.now() - begun) / 1_000)
  checked(await at, TASKS)
  await session.close()
  await store?.close()
  return rate
}

async function viaCommand(line, command, args) {
  const begun = performance.now()
  const child = spawn(command, args, { stdio: ['pipe', 'ignore', 'ignore'] })
  child.stdin.end(`${line}\n`.repeat(TASKS))
  const [code] = await once(child, 'exit')
  if (code !== 0) throw new Error(`${command} ended with ${code}`)
  return TASKS / ((performance.now() - begun) / 1_000)
}

/** `true` is built into shells, `/bin/true` is a program, and the last is what only a shell understands. */
async function shellTasks() {
  for (const line of ['true', '/bin/true', 'true && true']) await shellTasksOf(line)
}

async function shellTasksOf(line) {
  const hasParallel = spawnSync('parallel', ['--version']).status === 0
  const ways = {
    [`xargs -P ${NUM_TASKS}`]: () =>
      viaCommand(line, 'xargs', ['-P', `${NUM_TASKS}`, '-I{}', 'sh', '-c', '{}']),
    'manyhost, SQLite': () => viaStore(line, {}),
    'manyhost, in memory': () => viaStore(line, { inMemory: true }),
    ...(hasParallel && {
      [`parallel -j ${NUM_TASKS}`]: () => viaCommand(line, 'parallel', ['-j', `${NUM_TASKS}`]),
    }),
  }
  const rates = Object.fromEntries(Object.keys(ways).map((name) => [name, []]))
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, way] of Object.entries(ways)) rates[name].push(await way())
  }
  const base = rates[`xargs -P ${NUM_TASKS}`]
  const ratio = (own) => median(own.map((rate, round) => rate / base[round])).toFixed(2)
  table(
    `\`${line}\` x ${TASKS}, ${NUM_TASKS} at a time, median of ${ROUNDS} rounds`,
    ['', 'tasks/s', 'of xargs in the same round'],
    Object.entries(rates).map(([name, own]) => [name, Math.round(median(own)), ratio(own)]),
  )
  if (!hasParallel) console.log('!! SKIPPED: GNU parallel is not installed (apt install parallel)')
}

/** After as many as make the code warm; handed in before the clock runs, and with it; answered by an instance in a process of its own, whose CPU is not ours. */
async function requestTasks() {
  const rows = []
  for (const [name, before] of [
    ['handed in before', true],
    ['read from a source', false],
  ]) {
    const session = new Session({ provider: processes() })
    const command = [process.execPath, serverScript('hello')]
    session.startup({ url: 'http://calc', command, concurrency: 64 })
    // It is up before the clock runs.
    await session.client().get('http://calc/')
    const store = await openStore(join(folder, `${++files}.db`))
    const request = { method: 'GET', url: 'http://calc/x', headers: {}, body: null }
    const tasks = Array.from({ length: REQUESTS }, () => ({ args: 'GET http://calc/x', request }))
    checked(await serveFrom(tasks.slice(0, WARM), { session, store, bundleSize: 100 }), WARM)
    if (before) {
      for (let i = 0; i < tasks.length; i += 1_000) await store.add(tasks.slice(i, i + 1_000))
    }
    const cpu = process.cpuUsage()
    const begun = performance.now()
    // Tasks that are in the store already are taken by `restart` alone.
    const run = before
      ? serveFrom(undefined, { session, store, bundleSize: 100, restart: true })
      : serveFrom(tasks, { session, store, bundleSize: 100 })
    checked(await run, REQUESTS)
    const { user, system } = process.cpuUsage(cpu)
    const seconds = (performance.now() - begun) / 1_000
    rows.push([
      name,
      Math.round(REQUESTS / seconds),
      Math.round((user + system) / REQUESTS),
      Math.round((REQUESTS * 1e6) / (user + system)),
    ])
    await session.close()
    await store.close()
  }
  table(
    `requests as tasks x ${REQUESTS}, into SQLite, bundles of 100`,
    ['', 'tasks/s', 'us CPU a task', 'tasks a second of CPU'],
    rows,
  )
}

async function idleStart() {
  const store = await openStore(join(folder, `${++files}.db`))
  const run = runCluster(undefined, { store, numTasks: NUM_TASKS, forever: true })
  await run.ready
  const waits = []
  const results = run[Symbol.asyncIterator]()
  for (let i = 0; i < pick(20, 100, 300); i++) {
    await store.add([{ args: 'true' }])
    const { value } = await results.next()
    if (i > 2) waits.push(value.waited)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  run.stop()
  await run
  await store.close()
  waits.sort((a, b) => a - b)
  const at = (q) => waits[Math.min(waits.length - 1, Math.floor(waits.length * q))]
  table(
    'a task handed to an idle server, ms until it starts',
    ['median', 'p95', 'most'],
    [[at(0.5), at(0.95), at(1)]],
  )
}

try {
  await shellTasks()
  await requestTasks()
  await idleStart()
} finally {
  rmSync(folder, { recursive: true, force: true })
}
