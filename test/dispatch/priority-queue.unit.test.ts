import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PriorityQueue, QueueEntry } from '../../src/dispatch/priority-queue.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

class Named extends QueueEntry {
  readonly name: number
  constructor(name: number) {
    super()
    this.name = name
  }
}

interface Entry {
  readonly ticket: Named
  readonly priority: number
  readonly key: string
}

/** The same order, naively: arrays, and every rule as it is written down. */
class Model {
  readonly front: Entry[] = []
  readonly passed: Entry[] = []
  readonly lanes = new Map<number, Map<string, Entry[]>>()
  readonly ages: Named[] = []

  join(entry: Entry): void {
    const lane = this.lanes.get(entry.priority) ?? new Map<string, Entry[]>()
    this.lanes.set(entry.priority, lane)
    const file = lane.get(entry.key) ?? []
    lane.set(entry.key, file)
    file.push(entry)
    this.ages.push(entry.ticket)
  }

  joinFront(entry: Entry): void {
    this.insert(entry, this.front)
    this.ages.push(entry.ticket)
  }

  insert(entry: Entry, file: Entry[]): void {
    let at = file.length
    while (at > 0 && (file[at - 1] as Entry).ticket.name > entry.ticket.name) at--
    file.splice(at, 0, entry)
  }

  setAside(): Named | undefined {
    const first = this.front.shift()
    if (first) this.insert(first, this.passed)
    return first?.ticket
  }

  recall(fits: (ticket: Named) => boolean): boolean {
    const at = this.passed.findIndex(({ ticket }) => fits(ticket))
    if (at === -1) return false
    for (const entry of this.passed.splice(at, 1)) this.insert(entry, this.front)
    return true
  }

  take(): Named | undefined {
    const first = this.front.shift()
    if (first) return this.forget(first.ticket)
    const priorities = [...this.lanes.keys()].sort((a, b) => b - a)
    for (const priority of priorities) {
      const lane = this.lanes.get(priority) as Map<string, Entry[]>
      for (const [key, file] of lane) {
        const entry = file.shift()
        if (!entry) continue
        // The key that was served goes behind the others.
        lane.delete(key)
        if (file.length > 0) lane.set(key, file)
        return this.forget(entry.ticket)
      }
    }
    return undefined
  }

  remove(ticket: Named): boolean {
    const files = [
      this.front,
      this.passed,
      ...[...this.lanes.values()].flatMap((lane) => [...lane.values()]),
    ]
    for (const file of files) {
      const at = file.findIndex((entry) => entry.ticket === ticket)
      if (at === -1) continue
      file.splice(at, 1)
      for (const lane of this.lanes.values()) {
        for (const [key, left] of lane) if (left.length === 0) lane.delete(key)
      }
      this.forget(ticket)
      return true
    }
    return false
  }

  forget(ticket: Named): Named {
    this.ages.splice(this.ages.indexOf(ticket), 1)
    return ticket
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
  { weight: 2, arbitrary: fc.record({ do: fc.constant('aside' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('recall' as const), odd: fc.nat(1) }) },
)

function newLine(): PriorityQueue<Named> {
  return new PriorityQueue((one, other) => one.name <= other.name)
}

/** Takes the first one out. */
function taken(line: PriorityQueue<Named>): Named | undefined {
  const { first } = line
  if (first) line.take(first)
  return first
}

test('serves as the naive list does, whatever joins, returns, goes and is taken', () => {
  fc.assert(
    fc.property(
      fc.array(command, { maxLength: 120, size: 'max' }),
      fc.boolean(),
      (commands, fair) => {
        const line = newLine()
        const model = new Model()
        const all: Named[] = []
        for (const [now, command] of commands.entries()) {
          switch (command.do) {
            case 'join': {
              const ticket = new Named(all.length)
              const { priority } = command
              const key = fair ? command.key : ''
              all.push(ticket)
              line.join(ticket, now, priority, key)
              model.join({ ticket, priority, key })
              break
            }
            case 'front': {
              // One that was taken before comes back.
              const ticket = all.filter((one) => !model.ages.includes(one)).at(-1 - command.back)
              if (!ticket) break
              line.joinAtFront(ticket, now)
              model.joinFront({ ticket, priority: 0, key: '' })
              break
            }
            case 'take':
              expect(taken(line)).toBe(model.take())
              break
            case 'remove': {
              const ticket = all[command.nth] ?? new Named(-1)
              expect(line.remove(ticket)).toBe(model.remove(ticket))
              break
            }
            case 'aside': {
              const ticket = model.setAside()
              if (!ticket) break
              expect(line.first).toBe(ticket)
              line.defer(ticket)
              break
            }
            case 'recall': {
              const fits = ({ name }: Named): boolean => name % 2 === command.odd
              expect(line.resumeFirst(fits)).toBe(model.recall(fits))
              break
            }
          }
          expect([line.size, line.deferredCount]).toEqual([model.ages.length, model.passed.length])
          expect(line.oldest).toBe(model.ages[0])
        }
        while (line.resumeFirst(() => true)) model.recall(() => true)
        while (model.ages.length > 0) expect(taken(line)).toBe(model.take())
        expect([line.first, line.oldest]).toEqual([undefined, undefined])
      },
    ),
    { numRuns: 500, seed: 7 },
  )
})

test('leaves no link in a ticket that has left', () => {
  const line = newLine()
  const tickets = [1, 2, 3].map((name) => new Named(name))
  for (const ticket of tickets) line.join(ticket, 0, 0, 'key')
  line.remove(tickets[1] as Named)
  taken(line)
  taken(line)
  for (const {
    previous: before,
    next: behind,
    previousByAge: older,
    nextByAge: younger,
    bucket: file,
  } of tickets) {
    expect([before, behind, older, younger, file]).toEqual(Array(5).fill(undefined))
  }
})

test('a hundred thousand that leave from the middle are no slower than those that are served', () => {
  const line = newLine()
  const tickets = Array.from({ length: 100_000 }, (_, name) => new Named(name))
  for (const ticket of tickets) line.join(ticket, 0, ticket.name % 7)
  expect(tickets.toReversed().every((ticket) => line.remove(ticket))).toBe(true)
  expect(line.size).toBe(0)
})
