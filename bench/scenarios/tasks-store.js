/**
 * The store of tasks in one SQLite file: what an operation costs with few tasks in it, and with many. Theory: all that the
 * store does is led by an index or a kept count, so that its cost grows with the depth of a tree, not with its size.
 * Targets: submit, claim, complete, list and count cost at most twice as much at 10,000,000 as at 100,000; claim and
 * complete together, in bundles of 100, do 10,000 outcomes a second.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openStore } from '../../dist/src/tasks/store/open.js'
import { pick } from '../lib/args.js'
import { median } from '../lib/stats.js'
import { ratio, table } from '../lib/table.js'

const FEW = 100_000
const MANY = pick(300_000, 1_000_000, 10_000_000)
const BUNDLE = 100
const ROUNDS = pick(30, 100)

const folder = mkdtempSync(join(tmpdir(), 'manyhost-bench-'))
const store = await openStore(join(folder, 'tasks.db'))
const server = await store.registerServer()
let handedIn = 0

const bundle = () =>
  Array.from({ length: BUNDLE }, () => ({
    args: `convert in-${++handedIn}.png out-${handedIn}.jpg`,
    tag: { run: Math.floor(handedIn / 50_000) },
  }))

const outcomeOf = (task) => ({
  id: task.id,
  fence: task.fence,
  // One of fifty fails.
  exitStatus: Number.parseInt(task.id.slice(-3), 16) % 50 === 0 ? 1 : 0,
  command: task.args,
  clientId: 'bench',
  clientHost: 'here',
  startTime: Date.now() - 10,
  completionTime: Date.now(),
})

async function work(count) {
  for (let done = 0; done < count; done += BUNDLE) {
    const tasks = await store.claim({ server, limit: BUNDLE })
    await store.complete(tasks.map(outcomeOf))
  }
}

/** So many in all, most of them done, the last tenth waiting. */
async function fill(count) {
  const begun = performance.now()
  while (handedIn < count) {
    for (let i = 0; i < 10; i++) await store.add(Array.from({ length: 10 }, bundle).flat())
    await work(9_000)
    // The rest of the program has its turn.
    await new Promise(setImmediate)
  }
  return performance.now() - begun
}

async function list(filter, options = {}) {
  let seen = 0
  for await (const _ of store.list(filter, { limit: BUNDLE, ...options })) seen++
  if (seen === 0) throw new Error(`nothing listed: ${JSON.stringify(filter)}`)
}

const claimed = []
const OPERATIONS = {
  'submit 100': () => store.add(bundle()),
  'claim 100': async () => claimed.push(await store.claim({ server, limit: BUNDLE })),
  'complete 100': () => store.complete(claimed.shift().map(outcomeOf)),
  'list the last 100': () => list({}, { isDescending: true }),
  'list 100 that failed': () => list({ where: ['exit_status != 0'] }),
  'list 100 that remain': () => list({ only: ['remaining'] }),
  'list 100 by tag': () => list({ tags: ['run:1'] }),
  'list the 100 that ended last': () => list({}, { sort: 'completion_time', isDescending: true }),
  'count all': () => store.count(),
  'count what failed': () => store.count({ only: ['failed'] }),
  'groups and progress': () => store.progress(2),
}

/** Median microseconds of each operation. */
async function measured() {
  const times = Object.fromEntries(Object.keys(OPERATIONS).map((name) => [name, []]))
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, run] of Object.entries(OPERATIONS)) {
      const begun = performance.now()
      await run()
      times[name].push(1_000 * (performance.now() - begun))
    }
  }
  return Object.fromEntries(Object.entries(times).map(([name, all]) => [name, median(all)]))
}

await fill(FEW)
await measured()
const few = await measured()
const before = memory()
const took = await fill(MANY)
const many = await measured()
table(
  `tasks-store: median us of an operation, by tasks in the store (${size()})`,
  ['', FEW, MANY, ''],
  Object.keys(OPERATIONS).map((name) => [
    name,
    few[name],
    many[name],
    ratio(many[name] / few[name]),
  ]),
  [
    'target: x 2',
    `filled at ${Math.round((MANY - FEW) / (took / 1_000)).toLocaleString('en-US')} tasks/s: submitted by 1,000, nine of ten claimed and completed by 100`,
    `memory: ${before} MiB with ${FEW.toLocaleString('en-US')} tasks, ${memory()} MiB with ${MANY.toLocaleString('en-US')}; 64 MiB of it pages of the database`,
  ],
)

const COUNT = pick(10_000, 50_000)
const rows = []
for (const synchronous of ['normal', 'full']) {
  const own = await openStore(join(folder, `${synchronous}.db`), { synchronous })
  const id = await own.join()
  for (const size of [1, 10, 100]) {
    const tasks = Math.min(COUNT, size * 2_000)
    for (let i = 0; i < tasks; i += BUNDLE) await own.add(bundle())
    const begun = performance.now()
    for (let done = 0; done < tasks; done += size) {
      await own.complete((await own.claim({ server: id, limit: size })).map(outcomeOf))
    }
    rows.push([
      `synchronous ${synchronous}, bundles of ${size}`,
      Math.round(tasks / ((performance.now() - begun) / 1_000)),
    ])
  }
  await own.close()
}
table('tasks-store: outcomes a second, claimed and completed', ['', 'a second'], rows, [
  'target: 10,000 in bundles of 100',
])
await store.close()
rmSync(folder, { recursive: true, force: true })

/** Of the whole process: the store's thread has a heap of its own. */
function memory() {
  globalThis.gc?.()
  return Math.round(process.memoryUsage().rss / 2 ** 20)
}

function size() {
  const bytes = statSync(join(folder, 'tasks.db')).size
  return `${Math.round(bytes / 2 ** 20).toLocaleString('en-US')} MiB, ${Math.round(bytes / handedIn)} bytes a task`
}
