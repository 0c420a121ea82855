/**
 * The order in which waiting requests are served: those sent again first, then by priority, within a priority by
 * arrival, or in turn by key where fair shares are asked for. Insertion costs O(log p) for p priorities in use,
 * removal from anywhere O(1), and a place in line no memory beyond the links in the ticket itself. One that was sent
 * again may be set aside, so that all others pass it until it is recalled.
 */

/** What stands in a line: the links are the line's, nobody else's. */
export class Ticket {
  /** When it joined, on the clock of `now()`. */
  joinedAt = 0
  /** @internal */ before: Ticket | undefined
  /** @internal */ behind: Ticket | undefined
  /** @internal */ older: Ticket | undefined
  /** @internal */ younger: Ticket | undefined
  /** @internal */ file: File | undefined

  /** Whether it stands in a line. */
  get isWaiting(): boolean {
    return this.file !== undefined
  }
}

/** A file of tickets: a doubly linked list. `lane` is where it belongs. */
class File {
  first: Ticket | undefined
  last: Ticket | undefined
  readonly lane: Lane
  readonly key: string

  constructor(lane: Lane, key: string) {
    this.lane = lane
    this.key = key
  }

  append(ticket: Ticket): void {
    this.insertAfter(this.last, ticket)
  }

  insertAfter(place: Ticket | undefined, ticket: Ticket): void {
    ticket.file = this
    ticket.before = place
    ticket.behind = place ? place.behind : this.first
    if (ticket.behind) ticket.behind.before = ticket
    else this.last = ticket
    if (place) place.behind = ticket
    else this.first = ticket
  }

  remove(ticket: Ticket): void {
    if (ticket.before) ticket.before.behind = ticket.behind
    else this.first = ticket.behind
    if (ticket.behind) ticket.behind.before = ticket.before
    else this.last = ticket.before
    ticket.before = undefined
    ticket.behind = undefined
    ticket.file = undefined
  }
}

/** All tickets of one priority: one file, or a file a key, served in turn. */
class Lane {
  readonly priority: number
  /** Insertion order of the map is the order of turns: the served key is put behind the others. */
  readonly files = new Map<string, File>()

  constructor(priority: number) {
    this.priority = priority
  }

  file(key: string): File {
    let file = this.files.get(key)
    if (!file) {
      file = new File(this, key)
      this.files.set(key, file)
    }
    return file
  }
}

export class Line<T extends Ticket> {
  #size = 0
  #aside = 0
  readonly #isBefore: (one: T, other: T) => boolean
  readonly #front = new File(new Lane(Number.POSITIVE_INFINITY), '')
  /** Those that are passed over until they are recalled. They stand in line all the same, and grow older. */
  readonly #passed = new File(new Lane(Number.POSITIVE_INFINITY), '')
  readonly #lanes = new Map<number, Lane>()
  /** Binary heap of lanes, highest priority on top; emptied lanes leave it when they come up. */
  readonly #heap: Lane[] = []
  #oldest: Ticket | undefined
  #youngest: Ticket | undefined

  /** @param isBefore the order of those that come before all others */
  constructor(isBefore: (one: T, other: T) => boolean) {
    this.#isBefore = isBefore
  }

  get size(): number {
    return this.#size
  }

  /** How many of them are set aside. */
  get aside(): number {
    return this.#aside
  }

  /** The ticket that has waited longest. */
  get oldest(): T | undefined {
    return this.#oldest as T | undefined
  }

  /** The next one to be served: `take` it, or set it aside. */
  get first(): T | undefined {
    return (this.#front.first ?? this.#next()) as T | undefined
  }

  /** Joins at the end of its priority (higher ones first) and key. */
  join(ticket: T, now: number, priority = 0, key = ''): void {
    let lane = this.#lanes.get(priority)
    if (!lane) {
      lane = new Lane(priority)
      this.#lanes.set(priority, lane)
      this.#rise(lane)
    }
    lane.file(key).append(ticket)
    this.#age(ticket, now)
  }

  /** Joins before all others, among those who did so in their own order. */
  joinFront(ticket: T, now: number): void {
    this.#insert(ticket, this.#front)
    this.#age(ticket, now)
  }

  #insert(ticket: T, file: File): void {
    let place = file.last
    while (place && !this.#isBefore(place as T, ticket)) place = place.before
    file.insertAfter(place, ticket)
  }

  /** Takes the first one out: with fair shares, its key has had its turn. */
  take(first: T): void {
    const file = first.file as File
    this.remove(first)
    const { files } = file.lane
    // The key of an emptied file is out of its turn already.
    if (files.size > 1 && files.delete(file.key)) files.set(file.key, file)
  }

  /** Lets all others pass one that came before all others, until it is recalled. */
  setAside(ticket: T): void {
    this.#front.remove(ticket)
    this.#insert(ticket, this.#passed)
    this.#aside++
  }

  /** Brings the first of those set aside that fits before all others again. False if none does. */
  recall(fits: (ticket: T) => boolean): boolean {
    let ticket = this.#passed.first
    while (ticket && !fits(ticket as T)) ticket = ticket.behind
    if (!ticket) return false
    this.#passed.remove(ticket)
    this.#aside--
    this.#insert(ticket as T, this.#front)
    return true
  }

  /** Takes a waiting ticket out of the middle. False if it is in no line. */
  remove(ticket: T): boolean {
    const { file } = ticket
    if (!file) return false
    file.remove(ticket)
    if (file === this.#passed) this.#aside--
    // The file without a key stays: making it anew for each request would cost more than all the rest.
    if (!file.first && file.key !== '') file.lane.files.delete(file.key)
    if (ticket.older) ticket.older.younger = ticket.younger
    else this.#oldest = ticket.younger
    if (ticket.younger) ticket.younger.older = ticket.older
    else this.#youngest = ticket.older
    ticket.older = undefined
    ticket.younger = undefined
    this.#size--
    return true
  }

  #age(ticket: Ticket, now: number): void {
    ticket.joinedAt = now
    ticket.older = this.#youngest
    if (this.#youngest) this.#youngest.younger = ticket
    else this.#oldest = ticket
    this.#youngest = ticket
    this.#size++
  }

  /** The first one of those that were never in line before. */
  #next(): Ticket | undefined {
    for (let lane = this.#heap[0]; lane; lane = this.#heap[0]) {
      for (const file of lane.files.values()) if (file.first) return file.first
      this.#lanes.delete(lane.priority)
      this.#sink()
    }
    return undefined
  }

  #rise(lane: Lane): void {
    const heap = this.#heap
    let index = heap.length
    while (index > 0) {
      const above = (index - 1) >> 1
      const parent = heap[above] as Lane
      if (parent.priority >= lane.priority) break
      heap[index] = parent
      index = above
    }
    heap[index] = lane
  }

  /** Removes the top of the heap. */
  #sink(): void {
    const heap = this.#heap
    const lane = heap.pop()
    if (!lane || heap.length === 0) return
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= heap.length) break
      const right = heap[child + 1]
      if (right && right.priority > (heap[child] as Lane).priority) child++
      const greater = heap[child] as Lane
      if (greater.priority <= lane.priority) break
      heap[index] = greater
      index = child
    }
    heap[index] = lane
  }
}
