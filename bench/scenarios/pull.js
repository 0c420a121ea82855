/**
 * Workers that poll: jobs submitted a second, and jobs claimed and answered a second, over HTTP, kept in SQLite with a sync to
 * the disk before each answer. Hub on one core, load on the other. The original was seen at 274 submissions and 146 looks
 * for the next job a second, on a machine like this; ten times that is the target, 2,740 and 1,460.
 *
 * `node bench/scenarios/pull.js [--quick|--full]`
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Pool } from 'undici'
import { pick } from '../lib/args.js'
import { onServerCore } from '../lib/cores.js'
import { median } from '../lib/stats.js'
import { ratio, table } from '../lib/table.js'

const ORIGINAL = { submit: 274, next: 146 }
const ROUNDS = pick(3, 5, 15)
const JOBS = pick(2_000, 6_000, 20_000)
const hub = fileURLToPath(new URL('../servers/pull-hub.mjs', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'manyhost-bench-pull-'))
const json = { 'content-type': 'application/json' }
const body = JSON.stringify({ parameters: { a: 7 } })
const done = JSON.stringify({ status: 'COMPLETED', results: { b: 8 } })

async function open(store) {
  const [command, ...args] = onServerCore([process.execPath, hub, store])
  const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const [{ url, service }] = await once(child, 'message')
  return { child, service, url }
}

async function cpuOf(child) {
  child.send('cpu')
  const [{ cpu }] = await once(child, 'message')
  return cpu
}

/** So many times `one`, `width` at a time: a second, and the hub's CPU for one, in us. */
async function rate(child, count, width, one) {
  let left = count
  const cpu = await cpuOf(child)
  const begun = performance.now()
  await Promise.all(
    Array.from({ length: width }, async () => {
      while (left-- > 0) await one()
    }),
  )
  const took = performance.now() - begun
  return { rate: (count / took) * 1_000, cpu: ((await cpuOf(child)) - cpu) / count }
}

async function measure(store, width) {
  const { child, service, url } = await open(store)
  const pool = new Pool(url, { connections: width, pipelining: 1 })
  const call = async (method, path, expected, headers, text) => {
    const answer = await pool.request({ method, path, headers, body: text })
    const got = await answer.body.text()
    if (answer.statusCode !== expected)
      throw new Error(`${method} ${path}: ${answer.statusCode} ${got}`)
    return { got, headers: answer.headers }
  }
  const submit = () => call('POST', `${service}/jobs`, 201, json, body)
  const work = async () => {
    const { got, headers } = await call('GET', `${service}/next`, 200, {})
    const lease = { ...json, 'x-manyhost-lease': headers['x-manyhost-lease'] }
    await call('PATCH', `/jobs/${JSON.parse(got).data.id}`, 200, lease, done)
  }
  const count = width === 1 ? JOBS / 10 : JOBS
  const samples = { submit: [], work: [] }
  for (let round = -1; round < ROUNDS; round++) {
    const [submitted, worked] = [
      await rate(child, count, width, submit),
      await rate(child, count, width, work),
    ]
    if (round < 0) continue
    samples.submit.push(submitted)
    samples.work.push(worked)
  }
  await pool.destroy()
  const gone = once(child, 'exit')
  child.disconnect()
  await gone
  const both = (list) => ({
    rate: median(list.map(({ rate }) => rate)),
    best: Math.max(...list.map(({ rate }) => rate)),
    cpu: median(list.map(({ cpu }) => cpu)),
  })
  return { submit: both(samples.submit), work: both(samples.work) }
}

const rows = []
for (const [name, store, width] of [
  ['SQLite, 64 at a time', join(folder, 'many.db'), 64],
  ['SQLite, 8 at a time', join(folder, 'some.db'), 8],
  ['SQLite, one at a time', join(folder, 'one.db'), 1],
  ['in memory, 64 at a time', '', 64],
]) {
  const { submit, work } = await measure(store, width)
  for (const [what, { rate, best, cpu }, original] of [
    ['submitted', submit, ORIGINAL.submit],
    ['claimed + answered', work, ORIGINAL.next],
  ]) {
    const figures = [Math.round(rate), ratio(rate / original), Math.round(best), Math.round(cpu)]
    rows.push([`${name}: ${what}`, ...figures])
  }
}
rmSync(folder, { recursive: true, force: true })
table(
  'pull: jobs a second over HTTP',
  ['', 'a second', 'beside the original', 'best round', "us of the hub's CPU"],
  rows,
  [
    'the original: 274 submitted, 146 looks for the next job a second',
    'a claim and its result are two requests, and two syncs to the disk',
  ],
)
