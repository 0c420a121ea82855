/**
 * How many tasks each runner holds, and how many more it is to get. Pure: facts in, numbers out.
 *
 * A runner gets as many tasks as it has places, and beyond that what it works off while an answer comes and the next
 * bundle goes: many of tasks that take a millisecond, none of those that take long, which would wait there while
 * another runner has a place free.
 */

/** What is worked off in so many ms is sent ahead. */
const AHEAD = 200

/** Of longer ones none is sent ahead. */
const LONG = 2_000

/** Tasks ahead of one runner at most. */
const MOST_AHEAD = 500

/** A clock of milliseconds cannot tell anything shorter. In ms. */
const SHORTEST = 0.5

export function aheadOf(places: number, mean: number | null): number {
  if (mean === null || mean >= LONG) return 0
  return Math.min(MOST_AHEAD, Math.ceil((places * AHEAD) / Math.max(SHORTEST, mean)))
}

/** What a choice reads of a runner: an instance, or a target of the queue. */
export interface Seen {
  readonly id: string
  readonly inFlight: number
}

interface Runner {
  places: number
  /** Tasks that it has said hello to, and that have no outcome. */
  tasks: number
  /** Tasks of bundles that were given to it, but to which it said nothing yet. */
  picked: number[]
}

export class Books {
  readonly #places: number
  readonly #runners = new Map<string, Runner>()
  /** Sizes of bundles that the queue has not given to a runner yet, oldest first. */
  #announced: number[] = []
  #mean: number | null = null

  /** @param places what a runner is taken to have until it says so itself */
  constructor(places: number) {
    this.#places = places
  }

  /** Mean time of a task, in ms; lately rather than ever. */
  get mean(): number | null {
    return this.#mean
  }

  took(milliseconds: number): void {
    this.#mean = this.#mean === null ? milliseconds : this.#mean * 0.95 + milliseconds * 0.05
  }

  /** Bundles that wait for a runner. */
  get waiting(): number {
    return this.#announced.length
  }

  roomOf(id: string): number {
    const { places, tasks, picked } = this.#runner(id)
    return places + aheadOf(places, this.#mean) - tasks - sum(picked)
  }

  /** The one with the most room; -1: none has any. Of two alike, the one after `turn`. */
  best(runners: readonly Seen[], fits: (one: Seen) => boolean, turn = 0): number {
    let best = -1
    let most = Number.NEGATIVE_INFINITY
    for (let step = 0; step < runners.length; step++) {
      const index = (turn + step) % runners.length
      const one = runners[index] as Seen
      const room = this.roomOf(one.id)
      if (room > most && fits(one)) {
        best = index
        most = room
      }
    }
    return best
  }

  /** A bundle goes into the queue. */
  announce(size: number): void {
    this.#announced.push(size)
  }

  /** It left the queue without coming to a runner. */
  withdraw(size: number): void {
    const at = this.#announced.indexOf(size)
    if (at >= 0) this.#announced.splice(at, 1)
  }

  /** The queue gives its first bundle to this runner. */
  picked(id: string): void {
    const size = this.#announced.shift()
    if (size !== undefined) this.#runner(id).picked.push(size)
  }

  /** A runner has said hello to a bundle. */
  hello(id: string, size: number, places: number): void {
    const runner = this.#runner(id)
    runner.places = places
    runner.tasks += size
    this.missed(id, size)
  }

  /** A bundle never came to the runner that it was given to. */
  missed(id: string, size: number): void {
    const { picked } = this.#runner(id)
    const at = picked.indexOf(size)
    if (at >= 0) picked.splice(at, 1)
    // Not picked by these books: the queue chose by itself.
    else this.withdraw(size)
  }

  ended(id: string, count = 1): void {
    const runner = this.#runners.get(id)
    if (runner) runner.tasks = Math.max(0, runner.tasks - count)
  }

  forget(id: string): void {
    this.#runners.delete(id)
  }

  #runner(id: string): Runner {
    let runner = this.#runners.get(id)
    if (!runner) {
      runner = { places: this.#places, tasks: 0, picked: [] }
      this.#runners.set(id, runner)
    }
    return runner
  }
}

function sum(numbers: readonly number[]): number {
  let total = 0
  for (const one of numbers) total += one
  return total
}
