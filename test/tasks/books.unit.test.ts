/** How many tasks a runner is sent. */
import { describe, expect, it } from 'vitest'
import { aheadOf, Books } from '../../src/tasks/server/books.ts'
import { isDead, processId } from '../../src/tasks/server/life.ts'

const runner = (id: string) => ({ id, inFlight: 0 })
const all = () => true

describe('books', () => {
  it('send nothing ahead of tasks that take long, or of which nothing is known', () => {
    expect(aheadOf(8, null)).toBe(0)
    expect(aheadOf(8, 60_000)).toBe(0)
    expect(aheadOf(8, 1_000)).toBe(2)
    expect(aheadOf(2, 1)).toBe(400)
    expect(aheadOf(64, 0)).toBe(500)
  })

  it('give each runner its places, and the next bundle to who has most of them free', () => {
    const books = new Books(4)
    const runners = [runner('a'), runner('b')]
    expect(books.best(runners, all)).toBe(0)
    books.announce(4)
    books.picked('a')
    expect(books.roomOf('a')).toBe(0)
    expect(books.best(runners, all)).toBe(1)
    books.hello('a', 4, 8)
    expect(books.roomOf('a')).toBe(4)
    books.ended('a', 3)
    expect(books.roomOf('a')).toBe(7)
    expect(books.best(runners, ({ id }) => id !== 'a')).toBe(1)
  })

  it('count a bundle out that came to nobody', () => {
    const books = new Books(2)
    books.announce(2)
    expect(books.waiting).toBe(1)
    books.withdraw(2)
    expect(books.waiting).toBe(0)
    books.announce(2)
    books.picked('a')
    books.missed('a', 2)
    expect(books.roomOf('a')).toBe(2)
  })

  it('take the time that tasks lately took', () => {
    const books = new Books(2)
    books.took(100)
    expect(books.mean).toBe(100)
    for (let i = 0; i < 200; i++) books.took(2)
    expect(books.mean).toBeCloseTo(2, 1)
  })
})

describe('the id of a server', () => {
  it('tells a process that is gone, and only where that is sure', () => {
    expect(isDead(processId())).toBe(false)
    expect(isDead('0123456789abcdef')).toBe(false)
    if (process.platform !== 'linux') return console.warn('SKIPPED: no /proc to know processes by')
    const [name, space, pid, start] = processId().split('.')
    expect(isDead([name, space, pid, Number(start) - 1].join('.'))).toBe(true)
    expect(isDead([name, 'another-machine', pid, '1'].join('.'))).toBe(false)
  })
})
