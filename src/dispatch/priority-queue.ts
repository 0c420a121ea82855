/**
 * The order in which waiting requests are served: resent requests first, then by priority, and within a priority by
 * arrival, or in turn by fairness key. Joining costs O(log p) for p priorities in use. Removal from any position costs
 * O(1). An entry carries its own links, so a position in the queue needs no further memory.
 *
 *   #resent    Bucket  e -> e -> e                              served before all others, oldest request first
 *   #deferred  Bucket  e -> e                                   passed over until `resumeFirst` moves them to #resent
 *   #heap      PriorityLevel 9  'alice' -> Bucket  e -> e       highest priority on top of a binary heap;
 *                               'bob'   -> Bucket  e            the buckets of one level are served in turn
 *              PriorityLevel 0  ''      -> Bucket  e -> e -> e
 *
 * Every entry is in one bucket (links `previous`, `next`) and in one list of all entries by the time at which they
 * joined (links `previousByAge`, `nextByAge`; ends `#oldest`, `#newest`).
 */

/** An entry of the queue. Only the queue writes the links. */
export class QueueEntry {
  /** When it joined, on the clock of `now()`. */
  joinedAt = 0
  /** @internal */ previous: QueueEntry | undefined
  /** @internal */ next: QueueEntry | undefined
  /** @internal */ previousByAge: QueueEntry | undefined
  /** @internal */ nextByAge: QueueEntry | undefined
  /** @internal */ bucket: Bucket | undefined

  /** Whether it is in a queue. */
  get isWaiting(): boolean {
    return this.bucket !== undefined
  }
}

/** The entries of one priority level that have the same fairness key: a doubly linked list. */
class Bucket {
  first: QueueEntry | undefined
  last: QueueEntry | undefined
  readonly level: PriorityLevel
  readonly key: string

  constructor(level: PriorityLevel, key: string) {
    this.level = level
    this.key = key
  }

  append(entry: QueueEntry): void {
    this.insertAfter(this.last, entry)
  }

  insertAfter(position: QueueEntry | undefined, entry: QueueEntry): void {
    entry.bucket = this
    entry.previous = position
    entry.next = position ? position.next : this.first
    if (entry.next) entry.next.previous = entry
    else this.last = entry
    if (position) position.next = entry
    else this.first = entry
  }

  remove(entry: QueueEntry): void {
    if (entry.previous) entry.previous.next = entry.next
    else this.first = entry.next
    if (entry.next) entry.next.previous = entry.previous
    else this.last = entry.previous
    entry.previous = undefined
    entry.next = undefined
    entry.bucket = undefined
  }
}

/** All entries of one priority: one bucket, or one bucket for each fairness key. */
class PriorityLevel {
  readonly priority: number
  /** The order of the map is the order of turns: a key that was served is moved to the end. */
  readonly buckets = new Map<string, Bucket>()

  constructor(priority: number) {
    this.priority = priority
  }

  bucketFor(key: string): Bucket {
    let bucket = this.buckets.get(key)
    if (!bucket) {
      bucket = new Bucket(this, key)
      this.buckets.set(key, bucket)
    }
    return bucket
  }
}

export class PriorityQueue<T extends QueueEntry> {
  #size = 0
  #deferredCount = 0
  readonly #isBefore: (one: T, other: T) => boolean
  readonly #resent = new Bucket(new PriorityLevel(Number.POSITIVE_INFINITY), '')
  /** Entries that are passed over until they are resumed. They count as waiting, and grow older. */
  readonly #deferred = new Bucket(new PriorityLevel(Number.POSITIVE_INFINITY), '')
  readonly #levels = new Map<number, PriorityLevel>()
  /** A binary heap, the highest priority on top. An empty level is removed when it comes to the top. */
  readonly #heap: PriorityLevel[] = []
  #oldest: QueueEntry | undefined
  #newest: QueueEntry | undefined

  /** @param isBefore the order among resent entries */
  constructor(isBefore: (one: T, other: T) => boolean) {
    this.#isBefore = isBefore
  }

  get size(): number {
    return this.#size
  }

  /** How many of the entries are deferred. */
  get deferredCount(): number {
    return this.#deferredCount
  }

  /** The entry that has waited longest; also a deferred one. */
  get oldest(): T | undefined {
    return this.#oldest as T | undefined
  }

  /** The entry to serve next: `take` it, or `defer` it. Deferred entries are left out. */
  get first(): T | undefined {
    return (this.#resent.first ?? this.#firstOfLevels()) as T | undefined
  }

  /** Adds an entry at the end of its priority (higher ones are served first) and fairness key. */
  join(entry: T, now: number, priority = 0, key = ''): void {
    let level = this.#levels.get(priority)
    if (!level) {
      level = new PriorityLevel(priority)
      this.#levels.set(priority, level)
      this.#pushLevel(level)
    }
    level.bucketFor(key).append(entry)
    this.#linkByAge(entry, now)
  }

  /** Adds a resent entry. It is served before all entries that were added by `join`. */
  joinAtFront(entry: T, now: number): void {
    this.#insertInOrder(entry, this.#resent)
    this.#linkByAge(entry, now)
  }

  #insertInOrder(entry: T, bucket: Bucket): void {
    let position = bucket.last
    while (position && !this.#isBefore(position as T, entry)) position = position.previous
    bucket.insertAfter(position, entry)
  }

  /** Removes the first entry. Its fairness key has had its turn, and goes behind the other keys. */
  take(first: T): void {
    const bucket = first.bucket as Bucket
    this.remove(first)
    const { buckets } = bucket.level
    // `remove` has dropped the key of an emptied bucket already: then `delete` answers false.
    if (buckets.size > 1 && buckets.delete(bucket.key)) buckets.set(bucket.key, bucket)
  }

  /** Lets all other entries pass a resent one, until `resumeFirst` resumes it. */
  defer(entry: T): void {
    this.#resent.remove(entry)
    this.#insertInOrder(entry, this.#deferred)
    this.#deferredCount++
  }

  /** Makes the first deferred entry that fits a resent one again. False if none fits. */
  resumeFirst(fits: (entry: T) => boolean): boolean {
    let entry = this.#deferred.first
    while (entry && !fits(entry as T)) entry = entry.next
    if (!entry) return false
    this.#deferred.remove(entry)
    this.#deferredCount--
    this.#insertInOrder(entry as T, this.#resent)
    return true
  }

  /** Removes an entry from any position. False if it is in no queue. */
  remove(entry: T): boolean {
    const { bucket } = entry
    if (!bucket) return false
    bucket.remove(entry)
    if (bucket === this.#deferred) this.#deferredCount--
    // The bucket without a key stays: creating it anew for each request would cost more than the rest of this class.
    if (!bucket.first && bucket.key !== '') bucket.level.buckets.delete(bucket.key)
    if (entry.previousByAge) entry.previousByAge.nextByAge = entry.nextByAge
    else this.#oldest = entry.nextByAge
    if (entry.nextByAge) entry.nextByAge.previousByAge = entry.previousByAge
    else this.#newest = entry.previousByAge
    entry.previousByAge = undefined
    entry.nextByAge = undefined
    this.#size--
    return true
  }

  #linkByAge(entry: QueueEntry, now: number): void {
    entry.joinedAt = now
    entry.previousByAge = this.#newest
    if (this.#newest) this.#newest.nextByAge = entry
    else this.#oldest = entry
    this.#newest = entry
    this.#size++
  }

  /** The first entry of the highest priority that has one. */
  #firstOfLevels(): QueueEntry | undefined {
    for (let level = this.#heap[0]; level; level = this.#heap[0]) {
      for (const bucket of level.buckets.values()) if (bucket.first) return bucket.first
      this.#levels.delete(level.priority)
      this.#popLevel()
    }
    return undefined
  }

  #pushLevel(level: PriorityLevel): void {
    const heap = this.#heap
    let index = heap.length
    while (index > 0) {
      const above = (index - 1) >> 1
      const parent = heap[above] as PriorityLevel
      if (parent.priority >= level.priority) break
      heap[index] = parent
      index = above
    }
    heap[index] = level
  }

  /** Removes the level on top of the heap. */
  #popLevel(): void {
    const heap = this.#heap
    const level = heap.pop()
    if (!level || heap.length === 0) return
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= heap.length) break
      const right = heap[child + 1]
      if (right && right.priority > (heap[child] as PriorityLevel).priority) child++
      const greater = heap[child] as PriorityLevel
      if (greater.priority <= level.priority) break
      heap[index] = greater
      index = child
    }
    heap[index] = level
  }
}
