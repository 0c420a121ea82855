import { describe, expect, it } from 'vitest'
import type { ManyhostError } from '../../src/core/errors.ts'
import { type Size, SizeReader, type SizeReaderOptions, toSize } from '../../src/sizing/size.ts'
import fc from '../properties.ts'
import { FakeCluster, pending } from './fake-cluster.ts'

const settled = () => new Promise((resolve) => setImmediate(resolve))

function reading(source: Size | (() => unknown), options: Partial<SizeReaderOptions> = {}) {
  const sizes: number[] = []
  const errors: ManyhostError[] = []
  const size = typeof source === 'function' ? ({ read: source } as Size) : source
  const reader = new SizeReader(size, {
    initial: 0,
    service: 'http://calc',
    onSize: (n) => sizes.push(n),
    onError: (error) => errors.push(error),
    ...options,
  })
  return { reader, sizes, errors, messages: () => errors.map((error) => error.message) }
}

describe('SizeReader', () => {
  it('applies what answers at once before read returns', () => {
    const { reader, sizes } = reading(toSize(7, new FakeCluster()))
    reader.read(0)
    expect(sizes).toEqual([7])
    expect(reader.size).toBe(7)
  })

  it('tells only a size that has changed', () => {
    const answers = [3, 3, 3.9, 4, 3]
    const { reader, sizes } = reading(() => answers.shift(), { initial: 3 })
    for (let at = 0; at < 5; at++) reader.read(at)
    expect(sizes).toEqual([4, 3])
  })

  it('holds every size between minSize and maxSize', () => {
    const bound = fc.nat(20)
    fc.assert(
      fc.property(bound, bound, fc.array(fc.oneof(fc.double(), fc.integer())), (a, b, answers) => {
        const [minSize, maxSize] = [Math.min(a, b), Math.max(a, b)]
        const queue = [...answers]
        const { reader, errors } = reading(() => queue.shift(), { minSize, maxSize })
        for (const [at, answer] of answers.entries()) {
          const before = reader.size
          reader.read(at)
          const held = Math.min(maxSize, Math.max(minSize, Math.trunc(answer)))
          expect(reader.size).toBe(Number.isFinite(answer) ? held : before)
        }
        if (answers.every(Number.isFinite)) expect(errors).toEqual([])
      }),
    )
  })

  it('never overlaps two reads, and reads on when one has settled', async () => {
    const first = pending<number>()
    const answers: unknown[] = [first.promise, 5]
    let calls = 0
    const { reader, sizes } = reading(() => answers[calls++])
    reader.read(0)
    reader.read(1_000)
    reader.read(2_000)
    expect(calls).toBe(1)
    first.resolve(2)
    await settled()
    expect(sizes).toEqual([2])
    reader.read(3_000)
    expect(sizes).toEqual([2, 5])
  })

  it('does not ask again while the user code is asking, however it comes back', () => {
    let calls = 0
    const { reader, sizes } = reading(() => {
      calls++
      reader.read(0)
      return calls
    })
    reader.read(0)
    expect(calls).toBe(1)
    expect(sizes).toEqual([1])
  })

  it('keeps the last good size when a read throws, rejects, or gives no number', async () => {
    const bad = [
      () => {
        throw new Error('sync')
      },
      () => Promise.reject(new Error('async')),
      () => Number.NaN,
      async () => 'seven',
    ]
    let ask: () => unknown = () => 3
    const { reader, sizes, errors, messages } = reading(() => ask())
    reader.read(0)
    for (const next of bad) {
      ask = next
      reader.read(1)
      await settled()
    }
    expect(reader.size).toBe(3)
    expect(sizes).toEqual([3])
    expect(messages()).toEqual([
      'the size of http://calc stays 3: sync',
      'the size of http://calc stays 3: async',
      'the size of http://calc stays 3: a size must be a finite number, got NaN',
      'the size of http://calc stays 3: a size must be a finite number, got "seven"',
    ])
    expect(errors[0]).toMatchObject({ code: 'MANYHOST_SIZE_FAILED', service: 'http://calc' })
    expect(errors[0]?.cause).toMatchObject({ message: 'sync' })
  })

  it('reports a streak of failures once, and again when it fails otherwise or anew', () => {
    let failure: string | undefined = 'a'
    const { reader, errors } = reading(() => {
      if (failure) throw new Error(failure)
      return 1
    })
    const ticks = () => Array.from({ length: 5 }, (_, at) => reader.read(at))
    ticks()
    expect(errors.length).toBe(1)
    failure = 'b'
    ticks()
    expect(errors.length).toBe(2)
    failure = undefined
    ticks()
    failure = 'b'
    ticks()
    expect(errors.length).toBe(3)
  })

  it('reports a read that hangs once, and never starts another', async () => {
    const answer = pending<number>()
    let calls = 0
    const { reader, sizes, messages } = reading(() => {
      calls++
      return answer.promise
    })
    for (let at = 0; at < 60_000; at += 1_000) reader.read(at)
    expect(calls).toBe(1)
    expect(messages()).toEqual(['the size of http://calc stays 0: it has not answered for 5 s'])
    answer.resolve(4)
    await settled()
    expect(sizes).toEqual([4])
  })

  it('reports a size that is always too late once, and again after it was in time', async () => {
    let answer = pending<number>()
    const { reader, errors } = reading(() => answer.promise)
    const take = async (at: number, ms: number) => {
      reader.read(at)
      reader.read(at + ms)
      answer.resolve(1)
      await settled()
      answer = pending()
    }
    await take(0, 8_000)
    await take(10_000, 8_000)
    expect(errors.length).toBe(1)
    await take(20_000, 10)
    await take(30_000, 8_000)
    expect(errors.length).toBe(2)
  })

  it('ignores what the size before answers, or fails with, after it was replaced', async () => {
    for (const late of ['resolve', 'reject'] as const) {
      const old = pending<number>()
      const { reader, sizes, errors } = reading(() => old.promise)
      reader.read(0)
      reader.replace(toSize(2, new FakeCluster()))
      reader.read(0)
      expect(sizes).toEqual([2])
      old[late](9)
      await settled()
      expect(sizes).toEqual([2])
      expect(errors).toEqual([])
    }
  })

  it('takes the new size when the old one replaces itself while it is read', () => {
    const { reader, sizes } = reading(() => {
      reader.replace(toSize(2, new FakeCluster()))
      reader.read(0)
      return 9
    })
    reader.read(0)
    expect(sizes).toEqual([2])
  })

  it('reads no more once closed', async () => {
    const answer = pending<number>()
    let calls = 0
    const { reader, sizes, errors } = reading(() => {
      calls++
      return answer.promise
    })
    reader.read(0)
    reader.close()
    reader.close()
    answer.resolve(3)
    await settled()
    reader.replace(toSize(2, new FakeCluster()))
    reader.read(99_000)
    expect([calls, sizes, errors]).toEqual([1, [], []])
  })
})
