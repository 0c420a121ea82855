/**
 * Which waiting task starts next on one machine with so many places, cores and bytes. Pure: facts and the time in,
 * choices out.
 *
 * First come, first served, but a task that does not fit is passed by, for `backfillTimeout`. From then on nothing passes
 * it that could delay it: only tasks that will have ended (by their timeout) before it could start anyway, or that
 * take only what it leaves over. This is EASY backfilling (Lifka, 1995; Mu'alem and Feitelson, 2001) with timeouts as
 * the estimates.
 */

/** What one task takes while it runs. */
export interface TaskResources {
  readonly cores: number
  /** Bytes. */
  readonly memory: number
  /** Milliseconds that it may run; `null` when nobody knows. */
  readonly timeout: number | null
}

export interface ScheduleCapacity {
  /** Tasks at a time. */
  readonly numTasks: number
  /** Infinity where it is not to be limited. */
  readonly cores: number
  /** Bytes; Infinity where it is not to be limited. */
  readonly memory: number
  /** Milliseconds for which others may pass a task that does not fit. */
  readonly backfillTimeout: number
}

interface WaitingTask<T> extends TaskResources {
  readonly item: T
  readonly since: number
}

interface ScheduledTask extends TaskResources {
  /** When it will have ended at the latest. */
  readonly endsAt: number
}

/** How far the search for one that fits goes: the cost of a step is bounded. */
const LOOK_AHEAD = 256

export class TaskSchedule<T> {
  readonly #capacity: ScheduleCapacity
  readonly #running = new Map<T, ScheduledTask>()
  #waiting: (WaitingTask<T> | undefined)[] = []
  #head = 0
  #numWaiting = 0
  #usedCores = 0
  #usedMemory = 0

  constructor(capacity: ScheduleCapacity) {
    this.#capacity = capacity
  }

  get waiting(): number {
    return this.#numWaiting
  }

  get running(): number {
    return this.#running.size
  }

  /** Why a task can never run here; `undefined` when it can. */
  explainRefusal({ cores, memory }: TaskResources): string | undefined {
    const { cores: allCores, memory: allMemory } = this.#capacity
    if (cores > allCores) return `it wants ${cores} cores, there are ${allCores}`
    if (memory > allMemory) return `it wants ${memory} bytes of memory, there are ${allMemory}`
    return undefined
  }

  enqueue(item: T, wanted: TaskResources, now: number): void {
    this.#waiting.push({ item, ...wanted, since: now })
    this.#numWaiting++
  }

  /** Takes a waiting one out; false when it does not wait. */
  remove(item: T): boolean {
    const at = this.#waiting.findIndex((one) => one?.item === item)
    if (at < 0) return false
    this.#removeAt(at)
    return true
  }

  /** The next to start now, which from here on runs; `undefined` when none can. */
  startNext(now: number): T | undefined {
    if (this.#numWaiting === 0 || this.#running.size >= this.#capacity.numTasks) return undefined
    let blocked: WaitingTask<T> | undefined
    let shadow: Reservation | undefined
    const end = Math.min(this.#waiting.length, this.#head + LOOK_AHEAD)
    for (let at = this.#head; at < end; at++) {
      const one = this.#waiting[at]
      if (!one) continue
      if (!this.#fitsNow(one)) {
        if (!blocked && now - one.since >= this.#capacity.backfillTimeout) blocked = one
        continue
      }
      if (blocked) {
        shadow ??= this.#reserveFor(blocked, now)
        if (!canBackfill(one, shadow, now)) continue
      }
      this.#removeAt(at)
      this.#start(one, now)
      return one.item
    }
    return undefined
  }

  /** A running one has ended. */
  release(item: T): void {
    const one = this.#running.get(item)
    if (!one) return
    this.#running.delete(item)
    this.#usedCores -= one.cores
    this.#usedMemory -= one.memory
  }

  /** All that waits, first come first; they wait no more. */
  clear(): T[] {
    const items = this.#waiting.flatMap((one) => (one ? [one.item] : []))
    this.#waiting = []
    this.#head = 0
    this.#numWaiting = 0
    return items
  }

  #fitsNow({ cores, memory }: TaskResources): boolean {
    return (
      this.#usedCores + cores <= this.#capacity.cores &&
      this.#usedMemory + memory <= this.#capacity.memory
    )
  }

  #start(one: WaitingTask<T>, now: number): void {
    const { item, cores, memory, timeout } = one
    this.#usedCores += cores
    this.#usedMemory += memory
    const until = timeout === null ? Number.POSITIVE_INFINITY : now + timeout
    this.#running.set(item, { cores, memory, timeout, endsAt: until })
  }

  #removeAt(at: number): void {
    this.#waiting[at] = undefined
    this.#numWaiting--
    while (this.#head < this.#waiting.length && !this.#waiting[this.#head]) this.#head++
    if (this.#head > 1_024 && this.#head * 2 > this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#head)
      this.#head = 0
    }
  }

  /** When the blocked one can start at the latest, and what it then leaves over. */
  #reserveFor(blocked: TaskResources, now: number): Reservation {
    let cores = this.#capacity.cores - this.#usedCores
    let memory = this.#capacity.memory - this.#usedMemory
    let at = now
    for (const one of [...this.#running.values()].sort((a, b) => a.endsAt - b.endsAt)) {
      if (cores >= blocked.cores && memory >= blocked.memory) break
      cores += one.cores
      memory += one.memory
      at = one.endsAt
    }
    return { at, cores: cores - blocked.cores, memory: memory - blocked.memory }
  }
}

interface Reservation {
  readonly at: number
  readonly cores: number
  readonly memory: number
}

function canBackfill(
  { cores, memory, timeout }: TaskResources,
  shadow: Reservation,
  now: number,
): boolean {
  if (timeout !== null && now + timeout <= shadow.at && shadow.at !== Number.POSITIVE_INFINITY) {
    return true
  }
  // When the end of the running ones is unknown, so is what will be left over: the blocked one may start any moment.
  if (shadow.at === Number.POSITIVE_INFINITY) return false
  return cores <= shadow.cores && memory <= shadow.memory
}
