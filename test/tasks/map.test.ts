/** `session.map`: one request an item. */
import { expect, it, onTestFinished } from 'vitest'
import { inProcess } from '../../providers/testing/index.ts'
import { SessionCore } from '../../src/session/session.ts'
import { createLatch, rejectionOf } from '../help.ts'

/** @param first what the first one, 0, waits for; the others are told as they are worked on */
function squares(first = createLatch(), release = (n: number): boolean => n === 3) {
  const counts = { now: 0, max: 0, all: 0 }
  const provider = inProcess(async (request: Request) => {
    counts.all++
    counts.max = Math.max(counts.max, ++counts.now)
    const n = (await request.json()) as number
    if (release(n)) first.open()
    if (n === 0) await first.promise
    counts.now--
    return n === 13 ? new Response('no', { status: 500 }) : Response.json(n * n)
  })
  const session = new SessionCore({ provider })
  onTestFinished(() => session.close())
  session.startup({ url: 'http://calc', concurrency: 64 })
  return { session, counts }
}

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n)

it('gives outcomes in the order of the source, errors among them', async () => {
  const { session } = squares()
  const outcomes = []
  for await (const one of session.map('http://calc/square', numbers(40))) outcomes.push(one)
  expect(outcomes.map(({ item }) => item)).toEqual(numbers(40))
  expect(outcomes[12]).toEqual({ index: 12, item: 12, value: 144 })
  expect(outcomes[13]?.error).toMatchObject({ code: 'MANYHOST_BAD_STATUS', status: 500 })
})

it('gives them as they come, where that is asked for', async () => {
  const first = createLatch()
  const { session } = squares(first, () => false)
  const items: number[] = []
  const options = { order: 'completion', concurrency: 4 } as const
  for await (const { item } of session.map('http://calc/square', numbers(20), options)) {
    items.push(item)
    first.open()
  }
  expect(items.toSorted((a, b) => a - b)).toEqual(numbers(20))
  expect(items[0]).not.toBe(0)
})

it('has no more requests at a time than it may, and reads the source no faster than outcomes are taken', async () => {
  const { session, counts } = squares()
  let read = 0
  let isClosed = false
  function* source() {
    try {
      for (; ; read++) yield read
    } finally {
      isClosed = true
    }
  }
  let taken = 0
  for await (const _ of session.map('http://calc/square', source(), { concurrency: 5 })) {
    expect(read - taken).toBeLessThanOrEqual(6)
    if (++taken === 30) break
  }
  expect(counts.max).toBeLessThanOrEqual(5)
  expect(isClosed).toBe(true)
})

it('throws what the source throws, after the outcomes of all before', async () => {
  const { session } = squares()
  function* source() {
    yield 1
    yield 2
    throw new Error('no more')
  }
  const values: unknown[] = []
  const all = (async () => {
    for await (const { value } of session.map('http://calc/square', source())) values.push(value)
  })()
  expect((await rejectionOf(all)).message).toBe('no more')
  expect(values).toEqual([1, 4])
})

it('refuses options that are none, and URLs that are nobody’s', () => {
  const { session } = squares()
  expect(() => session.map('http://calc', [], { order: 'random' } as never)).toThrow(
    /order must be/,
  )
  expect(() => session.map('http://nobody', [])).toThrow(/no service is at/)
})
