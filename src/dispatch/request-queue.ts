/**
 * One queue for all instances of a cluster. Whichever instance has a free slot first takes the first request, so no
 * request waits behind a slow instance while another one is idle.
 *
 * Two parts decide together: `SlotGate` says how many requests may be in flight, `PriorityQueue` says which request is
 * next. p-queue's own order is not used, because it costs O(n) with priorities.
 */
import { ManyhostError } from '../core/errors.ts'
import { after, now, type Timer } from '../core/time.ts'
import type { Attempt, AttemptQueue } from './attempt.ts'
import {
  type Candidate,
  leastInFlight,
  PICKS_BY_NAME,
  type Pick,
  type PickFacts,
  rendezvous,
} from './balance.ts'
import { guardFairness, guardPick, toFairnessRequest } from './balance-and-fairness.ts'
import { deferTimeout } from './budget.ts'
import { remainingTime } from './deadline.ts'
import { HashSlots } from './hash-slots.ts'
import { PriorityQueue } from './priority-queue.ts'
import type { DispatchSettings, FairnessRequest } from './settings.ts'
import { SlotGate } from './slot-gate.ts'
import type { Target } from './target.ts'

type Writable<T> = { -readonly [Name in keyof T]: T[Name] }

export interface QueueEvents {
  /** What the cluster is doing, for the message of a request that waited too long: `2 wanted, 0 ready`. */
  explain(): string
  /** Requests began to wait, or none waits any more: the size should be read again. */
  onChange(): void
  /** The last request of a closed target has ended. */
  onDrained(target: Target): void
}

export class RequestQueue implements AttemptQueue {
  readonly #settings: DispatchSettings
  readonly #events: QueueEvents
  readonly #gate = new SlotGate(() => this.#serveWaiting())
  readonly #waiting = new PriorityQueue<Attempt>(
    (one, other) => one.exchange.startedAt <= other.exchange.startedAt,
  )
  readonly #hashSlots = new HashSlots()
  readonly #pick: Pick
  readonly #keyOf: (request: FairnessRequest) => string
  #targets: Target[] = []
  #inFlight = 0
  /** One object for all picks, so that a request costs no allocation. */
  readonly #pickFacts: Writable<PickFacts>
  /** Whether `onChange` was called because requests wait. */
  #hasReportedWaiting = false
  #isServing = false
  /** A pick found no target although there is a free slot: the next change of slots lifts this. Prevents a busy loop. */
  #blocked = false
  #expiry: Timer | undefined
  /** Resumes all deferred requests at `#resumeAt`, when the first `deferTimeout` is over. */
  #resumeTimer: Timer | undefined
  #resumeAt = Number.POSITIVE_INFINITY
  #closed: ManyhostError | undefined

  constructor(settings: DispatchSettings, events: QueueEvents) {
    this.#settings = settings
    this.#events = events
    const { random } = settings
    const slots = this.#hashSlots
    this.#pickFacts = {
      turn: 0,
      now: 0,
      fewest: 0,
      random,
      affinity: undefined,
      hashSlots: slots,
      avoid: -1,
    }
    const { balance, fairness } = settings
    this.#pick =
      typeof balance === 'function' ? guardPick(balance, settings) : PICKS_BY_NAME[balance]
    this.#keyOf = fairness ? guardFairness(fairness, settings) : () => ''
  }

  /** Requests that wait. */
  get size(): number {
    return this.#waiting.size
  }

  /** Waiting requests for which only instances that failed them have a free slot: they wait for another one. */
  get deferredCount(): number {
    return this.#waiting.deferredCount
  }

  get isEmpty(): boolean {
    return this.#waiting.size === 0
  }

  /** Milliseconds that the longest-waiting request has waited; 0 when none waits. */
  get oldestAge(): number {
    const oldest = this.#waiting.oldest
    return oldest ? now() - oldest.joinedAt : 0
  }

  /** Requests that hold a slot. */
  get inFlight(): number {
    return this.#inFlight
  }

  get targets(): readonly Target[] {
    return this.#targets
  }

  /** Whether a request that joins now is served at once. */
  get hasFreeSlot(): boolean {
    return this.#gate.running > this.#inFlight || this.#gate.hasUnusedSlot
  }

  /**
   * Adds a request. The queue calls `attempt.run` when its turn comes.
   * @throws ManyhostError MANYHOST_QUEUE_FULL
   */
  join(attempt: Attempt): void {
    const { maxQueue, service, fairness } = this.#settings
    // A user's function comes first: it may close this queue, fill it, or abort the request.
    const key = fairness ? this.#keyOf(toFairnessRequest(attempt.exchange.request)) : ''
    if (attempt.isOver) return
    if (this.#closed) throw this.#closed
    if (this.#waiting.size >= maxQueue && !this.hasFreeSlot) {
      throw new ManyhostError(
        'MANYHOST_QUEUE_FULL',
        `${service}: ${this.#waiting.size} requests wait already (maxQueue ${maxQueue})`,
        { service },
      )
    }
    const { priority, affinity } = attempt.exchange.request
    this.#waiting.join(attempt, now(), priority ?? 0, key)
    if (affinity === undefined) attempt.pick = this.#pick
    else attempt.pick = rendezvous
    this.#afterJoin()
  }

  /** Adds a request that was in the queue before. It is served before all others, and `maxQueue` does not apply. */
  rejoin(attempt: Attempt): void {
    if (this.#closed) return attempt.end(this.#closed)
    attempt.pick = attempt.exchange.request.affinity === undefined ? this.#pick : rendezvous
    this.#waiting.joinAtFront(attempt, now())
    this.#afterJoin()
  }

  /** Removes a request that waits. */
  remove(attempt: Attempt): void {
    if (!this.#waiting.remove(attempt)) return
    this.#stopResumeTimer()
    if (this.#waiting.size > 0 || !this.#hasReportedWaiting) return
    this.#hasReportedWaiting = false
    this.#events.onChange()
  }

  /** Removes every request that has waited for `olderThan` ms, the oldest first, and calls `end` with each. */
  clear(end: (attempt: Attempt) => void, olderThan = 0): void {
    const before = now() - olderThan
    for (let entry = this.#waiting.oldest; entry; entry = this.#waiting.oldest) {
      if (entry.joinedAt > before) break
      this.#waiting.remove(entry)
      end(entry)
    }
    this.#stopResumeTimer()
  }

  /** Sets the targets; also called when the slots of a target have changed. */
  resize(targets: Target[]): void {
    // A user's balance gets this array. Without the freeze, sorting it would corrupt the queue's own indexes.
    if (typeof this.#settings.balance === 'function') Object.freeze(targets)
    this.#targets = targets
    this.#hashSlots.reset(targets)
    this.#pickFacts.fewest = 0
    this.#blocked = false
    this.#resumeAll()
    this.#updateGate()
  }

  /** Tells the gate how many slots there are. */
  #updateGate(): void {
    // Requests on closed targets count too: they use slot tasks until they end.
    let slots = this.#inFlight
    for (const target of this.#targets) {
      if (target.freeSlots > 0) slots += target.freeSlots
    }
    this.#gate.resize(slots)
    if (slots === 0) return
    this.#serveWaiting()
  }

  #afterJoin(): void {
    this.#serveWaiting()
    if (this.#waiting.size === 0) return
    if (!this.#hasReportedWaiting) {
      this.#hasReportedWaiting = true
      this.#events.onChange()
    }
    if (!this.#expiry && this.#settings.queueTimeout > 0) this.#startExpiryTimer()
  }

  /** Serves waiting requests as long as there are slot tasks, and requests one more task while a request waits. */
  #serveWaiting(): void {
    if (this.#isServing) return
    this.#isServing = true
    // `finally`, because an error would stop this queue for ever if `#isServing` stayed true.
    try {
      while (this.#waiting.size > this.#waiting.deferredCount && !this.#blocked) {
        if (this.#gate.running > this.#inFlight) this.#serveFirst()
        else if (!this.#gate.requestTask()) break
      }
    } finally {
      this.#isServing = false
    }
    if (this.#hasReportedWaiting && this.#waiting.size === 0) {
      this.#hasReportedWaiting = false
      this.#events.onChange()
    }
  }

  #serveFirst(): void {
    const attempt = this.#waiting.first as Attempt
    const targets = attempt.avoid ? this.#targetsForResend(attempt) : this.#targets
    // The request was deferred.
    if (!targets) return
    const target = this.#pickTarget(targets, attempt)
    // A user's balance may have aborted the request or closed the service: it must not be served then.
    if (!attempt.isWaiting) return
    if (!target) {
      // There was a free slot, and now there is none: a user's balance has changed something.
      this.#blocked = true
      return
    }
    this.#waiting.take(attempt)
    target.inFlight++
    this.#inFlight++
    attempt.run(target)
  }

  /**
   * The targets among which a resend may choose; undefined if the request was deferred.
   * 1. Targets that have not failed it, if one of them has a free slot.
   * 2. All targets, if every one has failed it, or if its `deferTimeout` is over.
   * 3. None for now: it is deferred until one of (1) has a free slot, or until `deferTimeout` is over.
   */
  #targetsForResend(attempt: Attempt): Target[] | undefined {
    const others = this.#targets.filter((target) => !attempt.hasFailedOn(target))
    // 1.
    if (others.some(({ freeSlots }) => freeSlots > 0)) return others
    const { exchange, joinedAt } = attempt
    const remainingMs = Math.min(
      remainingTime(exchange, this.#settings, joinedAt),
      this.#settings.queueTimeout || Number.POSITIVE_INFINITY,
    )
    const until = joinedAt + deferTimeout(exchange.attempts, remainingMs)
    // 2.
    if (others.length === 0 || now() >= until) return this.#targets
    // 3.
    this.#waiting.defer(attempt)
    if (until < this.#resumeAt) this.#startResumeTimer(until)
    return undefined
  }

  #startResumeTimer(until: number): void {
    this.#resumeTimer?.clear()
    this.#resumeAt = until
    this.#resumeTimer = after(until - now(), () => {
      this.#blocked = false
      this.#resumeAll()
      this.#serveWaiting()
    })
  }

  /** A method of its own: in `release`, which is hot, the closure would cost an allocation at each call. */
  #resumeFor(target: Target): void {
    this.#waiting.resumeFirst((attempt) => !attempt.hasFailedOn(target))
    this.#stopResumeTimer()
  }

  /** Clears the timer when no request is deferred any more. */
  #stopResumeTimer(): void {
    if (this.#waiting.deferredCount > 0 || this.#resumeAt === Number.POSITIVE_INFINITY) return
    this.#resumeTimer?.clear()
    this.#resumeAt = Number.POSITIVE_INFINITY
  }

  /** Lets all deferred requests choose again. */
  #resumeAll(): void {
    this.#resumeTimer?.clear()
    this.#resumeAt = Number.POSITIVE_INFINITY
    while (this.#waiting.resumeFirst(() => true));
  }

  #pickTarget(targets: Target[], attempt: Attempt): Target | undefined {
    if (targets.length === 0) return undefined
    const isAll = targets === this.#targets
    const facts = this.#pickFacts
    facts.turn++
    facts.now = this.#settings.balance === 'least-in-flight' ? 0 : now()
    facts.affinity = attempt.exchange.request.affinity
    facts.hashSlots = isAll ? this.#hashSlots : undefined
    facts.avoid = attempt.avoid ? targets.indexOf(attempt.avoid) : -1
    const target = targets[attempt.pick(targets as readonly Candidate[], facts)]
    if (!target || target.freeSlots <= 0) return undefined
    // Its load was the least of all, so it is a lower bound until a target with a lower load gets a free slot.
    if (isAll && attempt.pick === leastInFlight && facts.avoid < 0) facts.fewest = target.inFlight
    return target
  }

  /** Gives back the slot of an attempt that has ended. */
  release(target: Target): void {
    target.inFlight--
    if (target.inFlight < this.#pickFacts.fewest) this.#pickFacts.fewest = target.inFlight
    this.#inFlight--
    this.#blocked = false
    if (target.open) {
      if (this.#waiting.deferredCount > 0) this.#resumeFor(target)
      if (this.#waiting.size > 0) this.#serveWaiting()
      return
    }
    this.#updateGate()
    if (target.inFlight === 0) this.#events.onDrained(target)
  }

  #startExpiryTimer(): void {
    const { queueTimeout } = this.#settings
    const oldest = this.#waiting.oldest
    this.#expiry = undefined
    if (!oldest) return
    const wait = Math.max(1, oldest.joinedAt + queueTimeout - now())
    this.#expiry = after(wait, () => {
      const why = this.#events.explain()
      this.clear((attempt) => attempt.expire(queueTimeout, why), queueTimeout)
      this.#startExpiryTimer()
    })
  }

  /** Ends all waiting requests with this error, and every request that joins later. */
  close(error: ManyhostError): void {
    this.#closed = error
    this.#expiry?.clear()
    this.#expiry = undefined
    this.#resumeAll()
    this.clear((attempt) => attempt.end(error))
  }

  /** Takes requests again after `close`. */
  reopen(): void {
    this.#closed = undefined
  }
}
