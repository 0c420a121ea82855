/** What a runner holds its tasks to: time, cores and memory. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { RunnerMessage } from '../../../src/tasks/runner/protocol.ts'
import { type FalseClock, useFalseClock } from '../../clock.ts'
import { NEVER, waitUntil } from '../../help.ts'
import { type Answered, collect, startRunner, taskOf } from '../runner-help.ts'

/** A command that says that it runs, and goes on until it is let go. */
function gate() {
  const at = mkdtempSync(join(tmpdir(), 'manyhost-runner-test-'))
  onTestFinished(() => rmSync(at, { recursive: true, force: true }))
  return {
    at,
    held: `touch ${at}/runs; until test -e ${at}/go; do sleep 0.02; done`,
    runs: () => waitUntil(() => existsSync(join(at, 'runs'))),
    go: () => writeFileSync(join(at, 'go'), ''),
  }
}

/** Resolves with the answer; as long as there is none, a little time passes. */
async function whole({ passUntil }: FalseClock, answer: Promise<Answered>): Promise<Answered> {
  let isThere = false
  const there = answer.finally(() => {
    isThere = true
  })
  await passUntil(10, () => isThere)
  return there
}

describe('time', () => {
  const over = { exitStatus: 130, interrupted: 'timeout', message: 'timeout after 300 ms' }

  it.each([
    ['the task', { task: 300, bundle: NEVER, runner: NEVER }],
    ['the server', { task: NEVER, bundle: 300, runner: NEVER }],
    ['the runner', { task: NEVER, bundle: NEVER, runner: 300 }],
    ['the runner alone', { task: null, bundle: 0, runner: 300 }],
  ])('is the shortest that anybody allows: %s', async (_, { task, bundle, runner }) => {
    const clock = useFalseClock()
    const { held, runs } = gate()
    const { start } = await startRunner({ timeout: runner, signalWait: NEVER, bundleSize: 1 })
    const tasks = [taskOf({ args: held, timeout: task })]
    const answer = collect(await start(tasks, { timeout: bundle }), tasks)
    await runs()
    await clock.pass(300)
    expect((await whole(clock, answer)).outcomes.get('t0')).toMatchObject(over)
  })

  it('ends with INT, then TERM, then KILL, so long after each other', async () => {
    const clock = useFalseClock()
    const { at } = gate()
    const { start, runner } = await startRunner({ signalWait: 30_000, bundleSize: 1 })
    const path = join(at, 'heard')
    const hears = (all: string): Promise<unknown> =>
      waitUntil(
        () => existsSync(path) && readFileSync(path, 'utf8') === `${all.replaceAll(' ', '\n')}\n`,
      )
    const prod = (): boolean => process.kill(-(runner.tasks[0]?.group as number), 'SIGINT')
    const traps = ['INT', 'TERM'].map((name) => `trap 'echo ${name} >> ${path}' ${name}`)
    const args = `${traps.join('; ')}; echo up >> ${path}; while :; do sleep 0.02; done`
    const tasks = [taskOf({ args, timeout: 10_000 })]
    const answer = collect(await start(tasks), tasks)
    // Time stands still but for what passes here; a signal of our own shows that no other has come.
    await hears('up')
    await clock.pass(10_000)
    await hears('up INT')
    await clock.pass(29_999)
    prod()
    await hears('up INT INT')
    await clock.pass(1)
    await hears('up INT INT TERM')
    await clock.pass(29_999)
    prod()
    await hears('up INT INT TERM INT')
    await clock.pass(1)
    expect((await whole(clock, answer)).outcomes.get('t0')).toMatchObject({ exitStatus: 137 })
  })

  it('counts for the commands of a template, too', async () => {
    const clock = useFalseClock()
    const { held, runs } = gate()
    const { start } = await startRunner({ timeout: 300, signalWait: NEVER, bundleSize: 1 })
    const tasks = [taskOf('x')]
    const answer = collect(await start(tasks, { template: `echo {% ${held}; echo @ %}` }), tasks)
    await runs()
    await clock.pass(300)
    expect((await whole(clock, answer)).outcomes.get('t0')).toMatchObject({
      ...over,
      exitStatus: -2,
    })
  })

  it('of a runner that has something to do is not idle', async () => {
    const { held, runs, go } = gate()
    const { start, runner } = await startRunner({ numTasks: 1 })
    await waitUntil(() => runner.idleMs > 0)
    const tasks = [taskOf(held)]
    const answer = collect(await start(tasks), tasks)
    await runs()
    expect(runner.idleMs).toBe(0)
    go()
    await answer
    await waitUntil(() => runner.idleMs > 0)
  })
})

describe('cores and memory', () => {
  it.each([
    ['one core where a task names none', { cores: 1 }, {}],
    ['its cores', { cores: 3 }, { cores: 2 }],
    ['its memory', { memory: 1_000 }, { memory: 600 }],
  ])('a task takes %s', async (_, limits, wanted) => {
    const { held, runs, go } = gate()
    const { start, runner } = await startRunner({ numTasks: 4, ...limits })
    const tasks = [held, 'true'].map((args, n) => taskOf({ args, ...wanted }, n))
    const answer = collect(await start(tasks), tasks)
    await runs()
    await waitUntil(() => runner.running === 1 && runner.waiting === 1)
    go()
    const { outcomes } = await answer
    const end = outcomes.get('t0')?.completionTime as number
    expect(outcomes.get('t1')?.startTime).toBeGreaterThanOrEqual(end)
  })

  it.each([
    ['its own', { timeout: NEVER }, {}],
    // It was not taken into account, and nothing passed.
    ['that of the runner', {}, { timeout: NEVER }],
  ])('what waits is passed by what ends before the time of what runs: %s', async (_, own, all) => {
    const { at, held, runs, go } = gate()
    const { start, runner } = await startRunner({
      numTasks: 4,
      cores: 2,
      backfillTimeout: 0,
      ...all,
    })
    const first = [taskOf({ args: held, id: 'runs', ...own })]
    const then = [
      taskOf({ args: 'true', id: 'wide', cores: 2 }),
      taskOf({ args: 'true', id: 'longer' }),
      taskOf({ args: `touch ${at}/passed`, id: 'short', timeout: 60_000 }),
    ]
    const running = collect(await start(first), first)
    await runs()
    const waiting = collect(await start(then), then)
    await waitUntil(() => existsSync(join(at, 'passed')) && runner.running === 1)
    expect(runner.waiting).toBe(2)
    go()
    const { outcomes } = await waiting
    const end = (await running).outcomes.get('runs')?.completionTime as number
    expect(outcomes.get('wide')?.startTime).toBeGreaterThanOrEqual(end)
  })

  it.each([
    ['memory', { memory: 10_000 }, /^it used \d+ bytes of memory, but asked for 10000$/],
    ['cores', { cores: 0.001 }, /^it used [\d.]+ cores, but asked for 0\.001$/],
  ])('are sampled, and more %s than was asked for gives a message', async (_, wanted, message) => {
    const { at, go } = gate()
    const { start } = await startRunner({ numTasks: 1, monitor: true })
    const tasks = [taskOf({ args: `until test -e ${at}/go; do :; done`, ...wanted })]
    let looks = 0
    async function* seen(answer: AsyncIterable<RunnerMessage>) {
      for await (const one of answer) {
        // The title, and two looks.
        if (one.is === 'csv' && ++looks === 3) go()
        yield one
      }
    }
    const { csv, outcomes } = await collect(seen(await start(tasks)), tasks)
    expect(csv.get('t0')).toMatch(/^time,cores,memory\n(\d+,[\d.]+,\d+\n){2,}$/)
    const outcome = outcomes.get('t0')
    expect(outcome?.message).toMatch(message)
    const samples = (csv.get('t0') as string).trim().split('\n').slice(1)
    const maxOf = (column: number): number =>
      Math.max(...samples.map((line) => Number(line.split(',')[column])))
    expect([outcome?.coresMax, outcome?.memoryMax]).toEqual([maxOf(1), maxOf(2)])
  })
})
