/** Functions and sources that a user gives to tasks: each task has its outcome, and each run comes to its end. */
import { describe, expect, onTestFinished, test } from 'vitest'
import { readTasks, runCluster, submitFrom } from '../../src/tasks.ts'
import { rejectionOf, waitUntil } from '../help.ts'
import { collect } from '../tasks/collect.ts'
import { hanging, throwing } from './misbehaviour.ts'

// biome-ignore lint/suspicious/noExplicitAny: wrong functions are what is tested
type Any = (...args: any[]) => any

// Each starts a runner: some of the reasons do.
const failing = (throwing as readonly (readonly [string, Any])[]).filter(([name]) =>
  /an error$|null|getters/.test(name),
)

describe('onOutput', () => {
  test.each(failing)(
    '%s: each task has its outcome, and it is told once',
    async (_name, onOutput) => {
      const problems: string[] = []
      const onProblem = (text: string): void => void problems.push(text)
      const { counts } = await collect(['echo a', 'echo b'], { onOutput, onProblem })
      expect(counts).toMatchObject({ succeeded: 2, failed: 0, retried: 0 })
      expect(
        problems.filter((text) => text.startsWith('onOutput of the tasks threw')),
      ).toHaveLength(1)
    },
  )

  test.each(hanging)('%s: the run can be stopped', async (_name, hang) => {
    let isCalled = false
    const run = runCluster(['echo a', 'sleep 100'], {
      inMemory: true,
      signalWait: 100,
      onOutput: () => {
        isCalled = true
        return hang() as Promise<void>
      },
    })
    await waitUntil(() => isCalled)
    run.stop()
    await run
  })
})

test.each(failing)('onProblem %s: each task has its outcome', async (_name, onProblem) => {
  const onOutput = (): never => {
    throw new Error('so that there is a problem')
  }
  const { counts } = await collect(['echo a', 'echo b'], { onOutput, onProblem })
  expect(counts).toMatchObject({ succeeded: 2 })
})

test.each(failing)('onLine %s: each line gives its task', async (_name, onLine) => {
  const given: string[] = []
  for await (const { args } of readTasks(['a', 'b'], { onLine })) given.push(args)
  expect(given).toEqual(['a', 'b'])
})

describe('onBad', () => {
  const bad = 'a'.repeat(2_000_000)

  test.each(failing.filter(([name]) => name.startsWith('rejects')))(
    '%s: the source goes on',
    async (_name, onBad) => {
      const { counts } = await collect([bad, 'true'], { onBad })
      expect(counts).toMatchObject({ submitted: 1, succeeded: 1 })
    },
  )

  test.each(failing.filter(([name]) => name.startsWith('throws')))(
    '%s: the source ends with that, after what came before it',
    async (_name, onBad) => {
      const run = runCluster(['true', bad, 'true'], { inMemory: true, onBad })
      expect(await rejectionOf(run as unknown as Promise<unknown>)).toBeInstanceOf(Error)
      expect(run.counts).toMatchObject({ submitted: 1, succeeded: 1 })
    },
  )
})

describe('a source', () => {
  const silent = async function* (): AsyncGenerator<string> {
    yield 'true'
    await new Promise(() => undefined)
  }

  test.each(['stop', 'drain'] as const)(
    'that gives nothing any more: %s() ends the run',
    async (end) => {
      const run = runCluster(silent(), { inMemory: true })
      onTestFinished(() => run.stop())
      await waitUntil(() => run.counts.succeeded === 1)
      run[end]()
      expect(await run).toMatchObject({ submitted: 1, succeeded: 1 })
    },
  )

  test('that gives nothing any more: the signal ends its submission', async () => {
    const giveUp = new AbortController()
    const added: unknown[] = []
    const store = {
      add: async (tasks: unknown[]) => {
        added.push(...tasks)
        return tasks.map(String)
      },
    }
    const done = submitFrom(silent(), { store: store as never, signal: giveUp.signal })
    await waitUntil(() => added.length === 1)
    giveUp.abort()
    expect(await done).toMatchObject({ count: 1 })
  })

  test.each(failing.filter(([name]) => name.startsWith('throws')))(
    'that %s: the run ends with that, after what came before it',
    async (_name, act) => {
      const source = function* (): Generator<string> {
        yield 'true'
        act()
      }
      const run = runCluster(source(), { inMemory: true })
      expect(await rejectionOf(run as unknown as Promise<unknown>)).toBeInstanceOf(Error)
      expect(run.counts).toMatchObject({ succeeded: 1 })
    },
  )

  test.each([undefined, null, 5, {}, Number.NaN, Symbol('x'), [[]], { args: 5 }])(
    'that gives %s: the line is refused',
    async (item) => {
      const bad: unknown[] = []
      const onBad = (error: unknown): void => void bad.push(error)
      const { counts } = await collect([item, 'true'] as never, { onBad })
      expect(counts).toMatchObject({ succeeded: 1 })
      expect(bad).toHaveLength(1)
    },
  )
})
