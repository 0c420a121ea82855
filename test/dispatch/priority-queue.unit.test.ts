import { expect, test } from 'vitest'
import { PriorityQueue, QueueEntry } from '../../src/dispatch/priority-queue.ts'
import { expectNothingLeft } from '../leftovers.ts'
import fc from '../properties.ts'

expectNothingLeft()

class Named extends QueueEntry {
  readonly name: number
  constructor(name: number) {
    super()
    this.name = name
  }
}

interface ModelEntry {
  readonly entry: Named
  readonly priority: number
  readonly key: string
}

/** The same order, implemented with plain arrays. */
class Model {
  readonly front: ModelEntry[] = []
  readonly deferred: ModelEntry[] = []
  readonly levels = new Map<number, Map<string, ModelEntry[]>>()
  readonly ages: Named[] = []

  join(item: ModelEntry): void {
    const level = this.levels.get(item.priority) ?? new Map<string, ModelEntry[]>()
    this.levels.set(item.priority, level)
    const bucket = level.get(item.key) ?? []
    level.set(item.key, bucket)
    bucket.push(item)
    this.ages.push(item.entry)
  }

  joinAtFront(item: ModelEntry): void {
    this.insert(item, this.front)
    this.ages.push(item.entry)
  }

  insert(item: ModelEntry, bucket: ModelEntry[]): void {
    let at = bucket.length
    while (at > 0 && (bucket[at - 1] as ModelEntry).entry.name > item.entry.name) at--
    bucket.splice(at, 0, item)
  }

  defer(): Named | undefined {
    const first = this.front.shift()
    if (first) this.insert(first, this.deferred)
    return first?.entry
  }

  resumeFirst(fits: (entry: Named) => boolean): boolean {
    const at = this.deferred.findIndex(({ entry }) => fits(entry))
    if (at === -1) return false
    for (const item of this.deferred.splice(at, 1)) this.insert(item, this.front)
    return true
  }

  take(): Named | undefined {
    const first = this.front.shift()
    if (first) return this.forget(first.entry)
    const priorities = [...this.levels.keys()].sort((a, b) => b - a)
    for (const priority of priorities) {
      const level = this.levels.get(priority) as Map<string, ModelEntry[]>
      for (const [key, bucket] of level) {
        const item = bucket.shift()
        if (!item) continue
        // The key that was served goes behind the other keys.
        level.delete(key)
        if (bucket.length > 0) level.set(key, bucket)
        return this.forget(item.entry)
      }
    }
    return undefined
  }

  remove(entry: Named): boolean {
    const buckets = [
      this.front,
      this.deferred,
      ...[...this.levels.values()].flatMap((level) => [...level.values()]),
    ]
    for (const bucket of buckets) {
      const at = bucket.findIndex((item) => item.entry === entry)
      if (at === -1) continue
      bucket.splice(at, 1)
      for (const level of this.levels.values()) {
        for (const [key, left] of level) if (left.length === 0) level.delete(key)
      }
      this.forget(entry)
      return true
    }
    return false
  }

  forget(entry: Named): Named {
    this.ages.splice(this.ages.indexOf(entry), 1)
    return entry
  }
}

const command = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('join' as const),
      priority: fc.constantFrom(0, 0, 0, 1, -1, 2.5),
      key: fc.constantFrom('a', 'b', 'c'),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('front' as const), back: fc.nat(5) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('take' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('remove' as const), nth: fc.nat(30) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('defer' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('resume' as const), odd: fc.nat(1) }) },
)

function createQueue(): PriorityQueue<Named> {
  return new PriorityQueue((one, other) => one.name <= other.name)
}

/** Removes the first entry. */
function takeFirst(queue: PriorityQueue<Named>): Named | undefined {
  const { first } = queue
  if (first) queue.take(first)
  return first
}

test('keeps the order of the model for any sequence of calls', () => {
  fc.assert(
    fc.property(
      fc.array(command, { maxLength: 120, size: 'max' }),
      fc.boolean(),
      (commands, fair) => {
        const queue = createQueue()
        const model = new Model()
        const all: Named[] = []
        for (const [now, command] of commands.entries()) {
          switch (command.do) {
            case 'join': {
              const entry = new Named(all.length)
              const { priority } = command
              const key = fair ? command.key : ''
              all.push(entry)
              queue.join(entry, now, priority, key)
              model.join({ entry, priority, key })
              break
            }
            case 'front': {
              // An entry that was taken before is resent.
              const entry = all.filter((one) => !model.ages.includes(one)).at(-1 - command.back)
              if (!entry) break
              queue.joinAtFront(entry, now)
              model.joinAtFront({ entry, priority: 0, key: '' })
              break
            }
            case 'take':
              expect(takeFirst(queue)).toBe(model.take())
              break
            case 'remove': {
              const entry = all[command.nth] ?? new Named(-1)
              expect(queue.remove(entry)).toBe(model.remove(entry))
              break
            }
            case 'defer': {
              const entry = model.defer()
              if (!entry) break
              expect(queue.first).toBe(entry)
              queue.defer(entry)
              break
            }
            case 'resume': {
              const fits = ({ name }: Named): boolean => name % 2 === command.odd
              expect(queue.resumeFirst(fits)).toBe(model.resumeFirst(fits))
              break
            }
          }
          expect([queue.size, queue.deferredCount]).toEqual([
            model.ages.length,
            model.deferred.length,
          ])
          expect(queue.oldest).toBe(model.ages[0])
        }
        while (queue.resumeFirst(() => true)) model.resumeFirst(() => true)
        while (model.ages.length > 0) expect(takeFirst(queue)).toBe(model.take())
        expect([queue.first, queue.oldest]).toEqual([undefined, undefined])
      },
    ),
    { numRuns: 500 },
  )
})

test('clears every link of an entry that was removed', () => {
  const queue = createQueue()
  const entries = [1, 2, 3].map((name) => new Named(name))
  for (const entry of entries) queue.join(entry, 0, 0, 'key')
  queue.remove(entries[1] as Named)
  takeFirst(queue)
  takeFirst(queue)
  for (const { previous, next, previousByAge, nextByAge, bucket } of entries) {
    expect([previous, next, previousByAge, nextByAge, bucket]).toEqual(Array(5).fill(undefined))
  }
})

test('removes 100,000 entries of seven priorities in reverse order', () => {
  const queue = createQueue()
  const entries = Array.from({ length: 100_000 }, (_, name) => new Named(name))
  for (const entry of entries) queue.join(entry, 0, entry.name % 7)
  expect(entries.toReversed().every((entry) => queue.remove(entry))).toBe(true)
  expect(queue.size).toBe(0)
})
