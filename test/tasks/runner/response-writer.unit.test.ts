/** How outcomes are gathered into bundles, and how long they wait: on their way to the server, and into the store. */
import type { ServerResponse } from 'node:http'
import { describe, expect, it } from 'vitest'
import { ManyhostError } from '../../../src/core/errors.ts'
import { RunnerFrameDecoder, type RunOutcome } from '../../../src/tasks/runner/protocol.ts'
import {
  BEAT_INTERVAL_MS,
  RunnerResponseWriter,
} from '../../../src/tasks/runner/response-writer.ts'
import { OutcomeWriter, type OutcomeWriterParts } from '../../../src/tasks/server/outcome-writer.ts'
import { useFalseClock } from '../../clock.ts'
import { createLatch } from '../../help.ts'

/** A writer into a store that notes the ids of each batch, and then does what `complete` does. */
function openWriter(
  more: Partial<OutcomeWriterParts> = {},
  complete = async (): Promise<void> => {},
) {
  const batches: string[][] = []
  const problems: string[] = []
  const errors: Error[] = []
  const store = {
    async complete(all: readonly { id: string }[]) {
      await complete()
      batches.push(all.map(({ id }) => id))
      return { accepted: [], refused: [] }
    },
  }
  const outcomes = new OutcomeWriter(
    {
      store: store as unknown as OutcomeWriterParts['store'],
      batchSize: 3,
      maxAttempts: 1,
      waitMs: 25,
      claimed: { runningCount: 100 },
      outputs: { isCaptured: () => false, finish: async () => ({}) },
      mayHaveOutput: false,
      problems: { report: (message) => problems.push(message) },
      ...more,
    },
    { outcomesStored: async () => {}, fail: (error) => errors.push(error) },
  )
  const settle = (...ids: string[]): void => {
    for (const id of ids)
      outcomes.addOutcome({ task: {}, outcome: { id }, message: undefined } as never)
  }
  return { outcomes, settle, batches, problems, errors }
}

describe('outcomes on their way into the store', () => {
  it('are stored as soon as they are a bundle, fewer after the wait', async () => {
    const { pass } = useFalseClock()
    const { settle, batches } = openWriter()
    settle('a', 'b', 'c')
    await pass(0)
    expect(batches).toEqual([['a', 'b', 'c']])
    settle('d')
    await pass(24)
    expect(batches).toHaveLength(1)
    settle('e')
    await pass(1)
    expect(batches[1]).toEqual(['d', 'e'])
  })

  it('do not wait when no other task runs', async () => {
    const { pass } = useFalseClock()
    const { settle, batches } = openWriter({ claimed: { runningCount: 2 } })
    settle('a')
    await pass(0)
    expect(batches).toEqual([])
    settle('b')
    await pass(0)
    expect(batches).toEqual([['a', 'b']])
  })

  it('that came while others were stored go in bundles, too', async () => {
    const { pass } = useFalseClock()
    const gate = createLatch()
    const { settle, batches } = openWriter({}, () => gate.promise)
    settle('a', 'b', 'c', 'd', 'e', 'f', 'g')
    await pass(0)
    gate.open()
    await pass(25)
    expect(batches).toEqual([['a', 'b', 'c'], ['d', 'e', 'f'], ['g']])
  })

  it('are tried again while the store is busy, which is reported once; another error ends it', async () => {
    const { pass } = useFalseClock()
    let busy = 3
    const { settle, batches, problems, errors } = openWriter({}, async () => {
      if (busy-- > 0) throw new ManyhostError('MANYHOST_STORE_BUSY', 'it is busy')
      if (busy < -1) throw new Error('it is broken')
    })
    settle('a', 'b', 'c')
    await pass(50 + 100 + 199)
    expect([batches, problems]).toEqual([
      [],
      [expect.stringMatching(/busy.*3 outcomes wait to be stored/)],
    ])
    await pass(1)
    expect(batches).toEqual([['a', 'b', 'c']])
    settle('d', 'e', 'f')
    await pass(0)
    expect(errors).toMatchObject([{ message: 'it is broken' }])
  })
})

/** A response writer, and the messages of each of its writes. */
function openResponse(options: { bundleSize: number; bundleWait: number }) {
  const frames = new RunnerFrameDecoder()
  const written: string[][] = []
  const response = {
    destroyed: false,
    writableNeedDrain: false,
    write(bytes: Buffer) {
      const messages = frames.feed(bytes)
      written.push(
        messages.map((one) =>
          one.is === 'outcomes' ? one.outcomes.map(({ id }) => id).join() : one.is,
        ),
      )
      return true
    },
    end(bytes: Buffer) {
      this.write(bytes)
    },
  }
  const writer = new RunnerResponseWriter(response as unknown as ServerResponse, options)
  const end = (id: string, command = ''): void => writer.writeOutcome({ id, command } as RunOutcome)
  return { writer, written, end }
}

describe('the answer of a runner', () => {
  it('has outcomes when they are a bundle, fewer after the wait', async () => {
    const { pass } = useFalseClock()
    const { written, end } = openResponse({ bundleSize: 2, bundleWait: 50 })
    end('a')
    end('b')
    expect(written).toEqual([['a,b']])
    end('c')
    await pass(49)
    expect(written).toHaveLength(1)
    await pass(1)
    expect(written[1]).toEqual(['c'])
  })

  it('has output before the outcomes, and never much in one write', async () => {
    const { writer, written, end } = openResponse({ bundleSize: 100, bundleWait: 60_000 })
    end('a')
    writer.writeOutput(0, 'stdout', Buffer.from('x'))
    expect(written).toEqual([])
    writer.writeOutput(0, 'stdout', Buffer.alloc(65_536))
    expect(written).toEqual([['stdout', 'stdout', 'a']])
    end('b', 'x'.repeat(1 << 20))
    expect(written[1]).toEqual(['b'])
    end('c')
    writer.end()
    expect(written.slice(2)).toEqual([['c'], ['end']])
  })

  it('has a beat each interval while it has nothing else, until it ends', async () => {
    const { pass } = useFalseClock()
    const { writer, written } = openResponse({ bundleSize: 100, bundleWait: 50 })
    await pass(BEAT_INTERVAL_MS)
    await pass(BEAT_INTERVAL_MS)
    expect(written).toEqual([['beat'], ['beat']])
    writer.end()
    await pass(5 * BEAT_INTERVAL_MS)
    expect(written.slice(2)).toEqual([['end']])
  })
})
