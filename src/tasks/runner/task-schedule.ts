/**
 * Which waiting task starts next on a machine with a number of slots, cores and bytes. Pure.
 *
 * 1. First come, first served.
 * 2. A task that does not fit now is passed by others, for `backfillTimeout`.
 * 3. Then the machine is reserved for it. A later task passes it only if that cannot delay it:
 *    a. the later task will have ended, by its timeout, before the blocked task can start, or
 *    b. the later task takes only what the blocked task leaves over.
 *
 * This is EASY backfilling (Lifka, 1995; Mu'alem and Feitelson, 2001), with the timeouts as estimates.
 */

/** What a task takes while it runs. */
export interface TaskResources {
  readonly cores: number
  /** Bytes. */
  readonly memory: number
  /** Milliseconds that it may run; `null`: unknown. */
  readonly timeout: number | null
}

export interface ScheduleCapacity {
  /** Tasks at a time. */
  readonly numTasks: number
  /** Infinity: unlimited. */
  readonly cores: number
  /** Bytes; Infinity: unlimited. */
  readonly memory: number
  /** Milliseconds for which others may pass a task that does not fit; 0: as long as it does not fit, nothing passes that delays it. */
  readonly backfillTimeout: number
}

interface WaitingTask<T> extends TaskResources {
  readonly item: T
  readonly since: number
}

interface ScheduledTask extends TaskResources {
  /** When it will have ended, at the latest. */
  readonly endsAt: number
}

/** How many waiting tasks are looked at in one search, so that its cost is bounded. */
const LOOK_AHEAD = 256

export class TaskSchedule<T> {
  readonly #capacity: ScheduleCapacity
  readonly #running = new Map<T, ScheduledTask>()
  /** In the order of arrival, from `#head` on. A task that was taken out leaves undefined. */
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

  /** Why a task can never run here; undefined: it can. */
  explainRefusal({ cores, memory }: TaskResources): string | undefined {
    const { cores: allCores, memory: allMemory } = this.#capacity
    if (cores > allCores) return `it wants ${cores} cores, the runner has ${allCores}`
    if (memory > allMemory) return `it wants ${memory} bytes of memory, the runner has ${allMemory}`
    return undefined
  }

  enqueue(item: T, resources: TaskResources, now: number): void {
    this.#waiting.push({ item, ...resources, since: now })
    this.#numWaiting++
  }

  /** Takes a waiting task out; false: it does not wait. */
  remove(item: T): boolean {
    const at = this.#waiting.findIndex((one) => one?.item === item)
    if (at < 0) return false
    this.#removeAt(at)
    return true
  }

  /** The task that starts now, and counts as running from here on; undefined: none can start. */
  startNext(now: number): T | undefined {
    if (this.#numWaiting === 0 || this.#running.size >= this.#capacity.numTasks) return undefined
    let blocked: WaitingTask<T> | undefined
    let reservation: Reservation | undefined
    const end = Math.min(this.#waiting.length, this.#head + LOOK_AHEAD)
    for (let at = this.#head; at < end; at++) {
      const one = this.#waiting[at]
      if (!one) continue
      // 2.
      if (!this.#fitsNow(one)) {
        if (!blocked && now - one.since >= this.#capacity.backfillTimeout) blocked = one
        continue
      }
      // 3.
      if (blocked) {
        reservation ??= this.#reserveFor(blocked, now)
        if (!canBackfill(one, reservation, now)) continue
      }
      // 1.
      this.#removeAt(at)
      this.#start(one, now)
      return one.item
    }
    return undefined
  }

  /** A running task has ended. */
  release(item: T): void {
    const one = this.#running.get(item)
    if (!one) return
    this.#running.delete(item)
    this.#usedCores -= one.cores
    this.#usedMemory -= one.memory
  }

  /** Takes all waiting tasks out, in the order of arrival. */
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
    const endsAt = timeout === null ? Number.POSITIVE_INFINITY : now + timeout
    this.#running.set(item, { cores, memory, timeout, endsAt })
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

  /** When the blocked task can start, at the latest, and what it leaves over then. */
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
  /** Infinity: nobody knows, for a running task has no timeout. */
  readonly at: number
  /** What is left over for other tasks from then on. */
  readonly cores: number
  readonly memory: number
}

function canBackfill(
  { cores, memory, timeout }: TaskResources,
  reservation: Reservation,
  now: number,
): boolean {
  // The blocked task may start at any moment.
  if (reservation.at === Number.POSITIVE_INFINITY) return false
  // 3a.
  if (timeout !== null && now + timeout <= reservation.at) return true
  // 3b.
  return cores <= reservation.cores && memory <= reservation.memory
}
