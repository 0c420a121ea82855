/** A source on its way into the store, in bundles. */
import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { TaskFeeder, type TaskFeederParts } from '../../../src/tasks/server/task-feeder.ts'
import { readTasks } from '../../../src/tasks/text/source.ts'
import { useFalseClock } from '../../clock.ts'

/** A feed of lines that come when the test says so, and the bundles that it handed in. */
function feeding(more: Partial<TaskFeederParts>) {
  const source = new PassThrough()
  const bundles: string[][] = []
  const feed = new TaskFeeder({
    tasks: readTasks(source),
    waitForCapacity: async () => Number.POSITIVE_INFINITY,
    add: async (tasks) => {
      bundles.push(tasks.map(({ args }) => args))
    },
    ...more,
  })
  return { source, bundles, feed }
}

describe('a feed', () => {
  it('hands in a bundle when it is full, and fewer after the wait', async () => {
    const { pass } = useFalseClock()
    const { source, bundles, feed } = feeding({ bundleSize: 2, bundleWaitMs: 5_000 })
    source.write('a\nb\nc\n')
    await pass(4_000)
    expect(bundles).toEqual([['a', 'b']])
    source.write('d\n')
    await pass(0)
    expect(bundles).toEqual([
      ['a', 'b'],
      ['c', 'd'],
    ])
    await pass(60_000)
    source.write('e\n')
    await pass(4_999)
    expect(bundles).toHaveLength(2)
    await pass(1)
    expect(bundles[2]).toEqual(['e'])
    source.end('f\n')
    await feed.done
    expect(bundles[3]).toEqual(['f'])
  })

  it('without a wait hands in what there is, never more than a bundle', async () => {
    const { pass } = useFalseClock()
    const { source, bundles, feed } = feeding({ bundleSize: 3 })
    source.write('a\n')
    await pass(1)
    expect(bundles).toEqual([['a']])
    source.end('b\n'.repeat(7))
    await feed.done
    expect(bundles.flat()).toEqual(['a', ...Array.from({ length: 7 }, () => 'b')])
    expect(Math.max(...bundles.map(({ length }) => length))).toBe(3)
  })

  it('is full at what is read ahead, however large the bundle is to be', async () => {
    const { pass } = useFalseClock()
    const { source, bundles } = feeding({
      readAhead: 2,
      bundleSize: 5_000,
      bundleWaitMs: 3_600_000,
    })
    source.write('a\nb\n')
    await pass(0)
    expect(bundles).toEqual([['a', 'b']])
  })

  it('hands in at once what it holds when it is stopped, and goes on waiting for nothing', async () => {
    const { pass } = useFalseClock()
    const { source, bundles, feed } = feeding({ bundleSize: 10, bundleWaitMs: 3_600_000 })
    source.write('a\n')
    await pass(1)
    feed.stop()
    await pass(0)
    expect(bundles).toEqual([['a']])
    source.end()
    await feed.done
  })
})
