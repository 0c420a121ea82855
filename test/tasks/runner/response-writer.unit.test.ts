/** What is gathered into bundles, and how long it waits: outcomes on their way to the server, and into the store. */
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

/** OutcomeWriter on their way into a store that notes the ids of each batch, or does as it is told. */
function keeping(more: Partial<OutcomeWriterParts> = {}, complete = async (): Promise<void> => {}) {
  const batches: string[][] = []
  const said: string[] = []
  const errors: Error[] = []
  const store = {
    async complete(all: readonly { id: string }[]) {
      await complete()
      batches.push(all.map(({ id }) => id))
      return { accepted: [], refused: [] }
    },
  }
  const outcomes = new OutcomeWriter({
    store: store as unknown as OutcomeWriterParts['store'],
    batchSize: 3,
    maxAttempts: 1,
    waitMs: 25,
    countRunning: () => 100,
    outputs: { isCaptured: () => false } as unknown as OutcomeWriterParts['outputs'],
    mayHaveOutput: false,
    onStored: async () => {},
    reportProblem: (message) => said.push(message),
    onFailed: (error) => errors.push(error),
    ...more,
  })
  const settle = (...ids: string[]): void => {
    for (const id of ids)
      outcomes.addOutcome({ task: {}, outcome: { id }, message: undefined } as never)
  }
  return { outcomes, settle, batches, said, errors }
}

describe('outcomes', () => {
  it('are kept as soon as they are a bundle, fewer after the wait', async () => {
    const { pass } = useFalseClock()
    const { settle, batches } = keeping()
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

  it('wait for nobody when nothing else runs', async () => {
    const { pass } = useFalseClock()
    const { settle, batches } = keeping({ countRunning: () => 2 })
    settle('a')
    await pass(0)
    expect(batches).toEqual([])
    settle('b')
    await pass(0)
    expect(batches).toEqual([['a', 'b']])
  })

  it('that came while others were kept go in bundles, too', async () => {
    const { pass } = useFalseClock()
    let go!: () => void
    const gate = new Promise<void>((open) => {
      go = open
    })
    const { settle, batches } = keeping({}, () => gate)
    settle('a', 'b', 'c', 'd', 'e', 'f', 'g')
    await pass(0)
    go()
    await pass(25)
    expect(batches).toEqual([['a', 'b', 'c'], ['d', 'e', 'f'], ['g']])
  })

  it('are tried again while the store is busy, which is said once; another error ends it', async () => {
    const { pass } = useFalseClock()
    let busy = 3
    const { settle, batches, said, errors } = keeping({}, async () => {
      if (busy-- > 0) throw new ManyhostError('MANYHOST_STORE_BUSY', 'it is busy')
      if (busy < -1) throw new Error('it is broken')
    })
    settle('a', 'b', 'c')
    await pass(50 + 200 + 999)
    expect([batches, said]).toEqual([[], [expect.stringMatching(/busy.*3 outcomes wait/)]])
    await pass(1)
    expect(batches).toEqual([['a', 'b', 'c']])
    settle('d', 'e', 'f')
    await pass(0)
    expect(errors).toMatchObject([{ message: 'it is broken' }])
  })
})

/** An outbox, and what it wrote: a list of the messages of each write. */
function posting(options: { bundleSize: number; bundleWait: number }) {
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
  const outbox = new RunnerResponseWriter(response as unknown as ServerResponse, options)
  const end = (id: string, command = ''): void => outbox.writeOutcome({ id, command } as RunOutcome)
  return { outbox, written, end }
}

describe('an answer of a runner', () => {
  it('has outcomes when they are a bundle, fewer after the wait', async () => {
    const { pass } = useFalseClock()
    const { written, end } = posting({ bundleSize: 2, bundleWait: 50 })
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
    const { outbox, written, end } = posting({ bundleSize: 100, bundleWait: 60_000 })
    end('a')
    outbox.writeOutput(0, 'stdout', Buffer.from('x'))
    expect(written).toEqual([])
    outbox.writeOutput(0, 'stdout', Buffer.alloc(65_536))
    expect(written).toEqual([['stdout', 'stdout', 'a']])
    end('b', 'x'.repeat(1 << 20))
    expect(written[1]).toEqual(['b'])
    end('c')
    outbox.end()
    expect(written.slice(2)).toEqual([['c'], ['end']])
  })

  it('says that the runner lives while it has nothing else to say, until it ends', async () => {
    const { pass } = useFalseClock()
    const { outbox, written } = posting({ bundleSize: 100, bundleWait: 50 })
    await pass(BEAT_INTERVAL_MS)
    await pass(BEAT_INTERVAL_MS)
    expect(written).toEqual([['beat'], ['beat']])
    outbox.end()
    await pass(5 * BEAT_INTERVAL_MS)
    expect(written.slice(2)).toEqual([['end']])
  })
})
