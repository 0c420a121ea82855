/**
 * The order in which waiting requests are served: those sent again first, then by priority, within a priority by
 * arrival, or in turn by key where fair shares are asked for. Insertion costs O(log p) for p priorities in use,
 * removal from anywhere O(1), and a place in line no memory beyond the links in the ticket itself. One that was sent
 * again may be set aside, so that all others pass it until it is recalled.
 */

/** What stands in a line: the links are the line's, nobody else's. */
export class QueueEntry {
  /** When it joined, on the clock of `now()`. */
  joinedAt = 0
  /** @internal */ previous: QueueEntry | undefined
  /** @internal */ next: QueueEntry | undefined
  /** @internal */ previousByAge: QueueEntry | undefined
  /** @internal */ nextByAge: QueueEntry | undefined
  /** @internal */ bucket: Bucket | undefined

  /** Whether it stands in a line. */
  get isWaiting(): boolean {
    return this.bucket !== undefined
  }
}

/** A file of tickets: a doubly linked list. `lane` is where it belongs. */
class Bucket {
  first: QueueEntry | undefined
  last: QueueEntry | undefined
  readonly level: PriorityLevel
  readonly key: string

  constructor(lane: PriorityLevel, key: string) {
    this.level = lane
    this.key = key
  }

  append(ticket: QueueEntry): void {
    this.insertAfter(this.last, ticket)
  }

  insertAfter(place: QueueEntry | undefined, ticket: QueueEntry): void {
    ticket.bucket = this
    ticket.previous = place
    ticket.next = place ? place.next : this.first
    if (ticket.next) ticket.next.previous = ticket
    else this.last = ticket
    if (place) place.next = ticket
    else this.first = ticket
  }

  remove(ticket: QueueEntry): void {
    if (ticket.previous) ticket.previous.next = ticket.next
    else this.first = ticket.next
    if (ticket.next) ticket.next.previous = ticket.previous
    else this.last = ticket.previous
    ticket.previous = undefined
    ticket.next = undefined
    ticket.bucket = undefined
  }
}

/** All tickets of one priority: one file, or a file a key, served in turn. */
class PriorityLevel {
  readonly priority: number
  /** Insertion order of the map is the order of turns: the served key is put behind the others. */
  readonly buckets = new Map<string, Bucket>()

  constructor(priority: number) {
    this.priority = priority
  }

  bucketFor(key: string): Bucket {
    let file = this.buckets.get(key)
    if (!file) {
      file = new Bucket(this, key)
      this.buckets.set(key, file)
    }
    return file
  }
}

export class PriorityQueue<T extends QueueEntry> {
  #size = 0
  #deferredCount = 0
  readonly #isBefore: (one: T, other: T) => boolean
  readonly #resent = new Bucket(new PriorityLevel(Number.POSITIVE_INFINITY), '')
  /** Those that are passed over until they are recalled. They stand in line all the same, and grow older. */
  readonly #deferred = new Bucket(new PriorityLevel(Number.POSITIVE_INFINITY), '')
  readonly #levels = new Map<number, PriorityLevel>()
  /** Binary heap of lanes, highest priority on top; emptied lanes leave it when they come up. */
  readonly #heap: PriorityLevel[] = []
  #oldest: QueueEntry | undefined
  #newest: QueueEntry | undefined

  /** @param isBefore the order of those that come before all others */
  constructor(isBefore: (one: T, other: T) => boolean) {
    this.#isBefore = isBefore
  }

  get size(): number {
    return this.#size
  }

  /** How many of them are set aside. */
  get deferredCount(): number {
    return this.#deferredCount
  }

  /** The ticket that has waited longest. */
  get oldest(): T | undefined {
    return this.#oldest as T | undefined
  }

  /** The next one to be served: `take` it, or set it aside. */
  get first(): T | undefined {
    return (this.#resent.first ?? this.#firstOfLevels()) as T | undefined
  }

  /** Joins at the end of its priority (higher ones first) and key. */
  join(ticket: T, now: number, priority = 0, key = ''): void {
    let lane = this.#levels.get(priority)
    if (!lane) {
      lane = new PriorityLevel(priority)
      this.#levels.set(priority, lane)
      this.#pushLevel(lane)
    }
    lane.bucketFor(key).append(ticket)
    this.#linkByAge(ticket, now)
  }

  /** Joins before all others, among those who did so in their own order. */
  joinAtFront(ticket: T, now: number): void {
    this.#insertInOrder(ticket, this.#resent)
    this.#linkByAge(ticket, now)
  }

  #insertInOrder(ticket: T, file: Bucket): void {
    let place = file.last
    while (place && !this.#isBefore(place as T, ticket)) place = place.previous
    file.insertAfter(place, ticket)
  }

  /** Takes the first one out: with fair shares, its key has had its turn. */
  take(first: T): void {
    const file = first.bucket as Bucket
    this.remove(first)
    const { buckets: files } = file.level
    // The key of an emptied file is out of its turn already.
    if (files.size > 1 && files.delete(file.key)) files.set(file.key, file)
  }

  /** Lets all others pass one that came before all others, until it is recalled. */
  defer(ticket: T): void {
    this.#resent.remove(ticket)
    this.#insertInOrder(ticket, this.#deferred)
    this.#deferredCount++
  }

  /** Brings the first of those set aside that fits before all others again. False if none does. */
  resumeFirst(fits: (ticket: T) => boolean): boolean {
    let ticket = this.#deferred.first
    while (ticket && !fits(ticket as T)) ticket = ticket.next
    if (!ticket) return false
    this.#deferred.remove(ticket)
    this.#deferredCount--
    this.#insertInOrder(ticket as T, this.#resent)
    return true
  }

  /** Takes a waiting ticket out of the middle. False if it is in no line. */
  remove(ticket: T): boolean {
    const { bucket: file } = ticket
    if (!file) return false
    file.remove(ticket)
    if (file === this.#deferred) this.#deferredCount--
    // The file without a key stays: making it anew for each request would cost more than all the rest.
    if (!file.first && file.key !== '') file.level.buckets.delete(file.key)
    if (ticket.previousByAge) ticket.previousByAge.nextByAge = ticket.nextByAge
    else this.#oldest = ticket.nextByAge
    if (ticket.nextByAge) ticket.nextByAge.previousByAge = ticket.previousByAge
    else this.#newest = ticket.previousByAge
    ticket.previousByAge = undefined
    ticket.nextByAge = undefined
    this.#size--
    return true
  }

  #linkByAge(ticket: QueueEntry, now: number): void {
    ticket.joinedAt = now
    ticket.previousByAge = this.#newest
    if (this.#newest) this.#newest.nextByAge = ticket
    else this.#oldest = ticket
    this.#newest = ticket
    this.#size++
  }

  /** The first one of those that were never in line before. */
  #firstOfLevels(): QueueEntry | undefined {
    for (let lane = this.#heap[0]; lane; lane = this.#heap[0]) {
      for (const file of lane.buckets.values()) if (file.first) return file.first
      this.#levels.delete(lane.priority)
      this.#popLevel()
    }
    return undefined
  }

  #pushLevel(lane: PriorityLevel): void {
    const heap = this.#heap
    let index = heap.length
    while (index > 0) {
      const above = (index - 1) >> 1
      const parent = heap[above] as PriorityLevel
      if (parent.priority >= lane.priority) break
      heap[index] = parent
      index = above
    }
    heap[index] = lane
  }

  /** Removes the top of the heap. */
  #popLevel(): void {
    const heap = this.#heap
    const lane = heap.pop()
    if (!lane || heap.length === 0) return
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= heap.length) break
      const right = heap[child + 1]
      if (right && right.priority > (heap[child] as PriorityLevel).priority) child++
      const greater = heap[child] as PriorityLevel
      if (greater.priority <= lane.priority) break
      heap[index] = greater
      index = child
    }
    heap[index] = lane
  }
}
