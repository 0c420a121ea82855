/** A body that is read again while it is still being read, over memory and disk. */
import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { Replay } from '../../src/dispatch/replay.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

/** Pieces of odd lengths, so that nothing falls on a boundary. */
function* pieces(total: number, seed: number): Generator<Buffer> {
  for (let made = 0, n = seed; made < total; n++) {
    const length = Math.min(total - made, 1 + ((n * 48_271) % 130_003))
    yield Buffer.alloc(length, n % 251)
    made += length
  }
}

const digest = (chunks: Iterable<Buffer>): string => {
  const hash = createHash('sha256')
  for (const chunk of chunks) hash.update(chunk)
  return hash.digest('hex')
}

async function read(body: AsyncIterable<Buffer>, atMost = Number.POSITIVE_INFINITY) {
  const chunks: Buffer[] = []
  for await (const chunk of body) {
    chunks.push(chunk)
    if (chunks.length >= atMost) break
  }
  return chunks
}

for (const limit of [0, 100_000, 50_000_000]) {
  test(`with ${limit} bytes of it in memory: whole, after readers that gave up anywhere`, async () => {
    const total = 8_000_000
    const wanted = digest(pieces(total, 7))
    const replay = new Replay(pieces(total, 7), limit, true)
    for (const atMost of [1, 3, 9, 20, 60]) await read(replay.open(), atMost)
    const both = await Promise.all([read(replay.open()), read(replay.open())])
    expect(both.map((chunks) => digest(chunks))).toEqual([wanted, wanted])
    expect(digest(await read(replay.open()))).toBe(wanted)
    replay.dispose()
  })
}

test('what waits for the disk is bounded, and a reader that is behind gets all of it', async () => {
  const replay = new Replay(pieces(3_000_000, 3), 0, true)
  const ahead = replay.open()[Symbol.asyncIterator]()
  const behind = replay.open()[Symbol.asyncIterator]()
  const seen: [Buffer[], Buffer[]] = [[], []]
  for (let turn = 0; ; turn++) {
    const [reader, chunks] = turn % 5 === 4 ? [behind, seen[1]] : [ahead, seen[0]]
    const { done, value } = await reader.next()
    if (done) break
    chunks.push(value)
  }
  for (let next = await behind.next(); !next.done; next = await behind.next()) {
    seen[1].push(next.value)
  }
  const wanted = digest(pieces(3_000_000, 3))
  expect(seen.map((chunks) => digest(chunks))).toEqual([wanted, wanted])
  replay.dispose()
})
