/**
 * One queue a cluster feeds whichever instance has a free place first, so that no request waits behind a slow one
 * while another instance is idle.
 *
 * p-queue is the gate: its concurrency is the number of places, it is paused at none, and a task of it is the right
 * to use one place. A task does not end with a request but serves whoever is first in line, request after request,
 * until there is a place less; so that a request costs neither the 3 us nor the 900 bytes of a task, and the order
 * can be that of `PriorityQueue`, where p-queue's own costs O(n) with priorities.
 */
import PQueue from 'p-queue'
import { ManyhostError } from '../core/errors.ts'
import { after, now, type Timer } from '../core/time.ts'
import { guardFunction } from '../core/user-functions.ts'
import type { Attempt } from './attempt.ts'
import {
  type Candidate,
  hasFreeSlot,
  leastInFlight,
  PICKS_BY_NAME,
  type Pick,
  type PickFacts,
  rendezvous,
} from './balance.ts'
import { deferTimeout } from './budget.ts'
import { remainingTime } from './deadline.ts'
import { HashSlots } from './hash-slots.ts'
import { PriorityQueue } from './priority-queue.ts'
import type { DispatchSettings, FairnessRequest } from './settings.ts'
import type { Target } from './target.ts'

type Writable<T> = { -readonly [Name in keyof T]: T[Name] }

export interface QueueEvents {
  explain(): string
  /** A request began or ceased to wait: the moment to ask again how many instances are wanted. */
  onChange(): void
  /** A target that takes no more requests has ended its last one. */
  onDrained(target: Target): void
}

export class RequestQueue {
  readonly #settings: DispatchSettings
  readonly #events: QueueEvents
  readonly #gate = new PQueue({ concurrency: 1, autoStart: false })
  readonly #waiting = new PriorityQueue<Attempt>(
    (one, other) => one.exchange.startedAt <= other.exchange.startedAt,
  )
  readonly #hashSlots = new HashSlots()
  readonly #pick: Pick
  readonly #keyOf: (request: FairnessRequest) => string
  #targets: Target[] = []
  #inFlight = 0
  /** Ends one task of the gate each. Tasks are alike: as many are idle as there are more of them than requests. */
  readonly #endSlotTask: (() => void)[] = []
  /** One object for all picks. */
  readonly #pickFacts: Writable<PickFacts>
  /** Whether it was said that requests wait. */
  #hasReportedWaiting = false
  #isServing = false
  /** A pick found no target although the gate had a place: wait for a change rather than ask in a circle. */
  #blocked = false
  #expiry: Timer | undefined
  /** Ends the patience of those set aside; the first is over at `#recallAt`. */
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

  /** How many of them could go only to instances that have failed them, and wait for another one. */
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

  /** Requests that hold a place. */
  get inFlight(): number {
    return this.#inFlight
  }

  get targets(): readonly Target[] {
    return this.#targets
  }

  /** Whether a request that came now would be served at once. */
  get hasFreeSlot(): boolean {
    return (
      this.#endSlotTask.length > this.#inFlight ||
      (!this.#gate.isPaused && this.#gate.pending < this.#gate.concurrency)
    )
  }

  /**
   * Lets a request in, to be run when its turn comes.
   * @throws ManyhostError MANYHOST_QUEUE_FULL
   */
  join(attempt: Attempt): void {
    const { maxQueue, service, fairness } = this.#settings
    // First of all, because it is a function of the user: it may close this queue, fill it, or abort the request.
    const key = fairness ? this.#keyOf(toFairnessRequest(attempt)) : ''
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

  /** Lets a request in that was in line before: it comes before all others, whatever `maxQueue` says. */
  rejoin(attempt: Attempt): void {
    if (this.#closed) return attempt.end(this.#closed)
    attempt.pick = attempt.exchange.request.affinity === undefined ? this.#pick : rendezvous
    this.#waiting.joinAtFront(attempt, now())
    this.#afterJoin()
  }

  /** Takes a waiting request out again. */
  remove(attempt: Attempt): void {
    if (!this.#waiting.remove(attempt)) return
    this.#stopResumeTimer()
    if (this.#waiting.size > 0 || !this.#hasReportedWaiting) return
    this.#hasReportedWaiting = false
    this.#events.onChange()
  }

  /** Gives every waiting request to `end`, oldest first, and forgets it. */
  clear(end: (attempt: Attempt) => void, olderThan = 0): void {
    const before = now() - olderThan
    for (let ticket = this.#waiting.oldest; ticket; ticket = this.#waiting.oldest) {
      if (ticket.joinedAt > before) break
      this.#waiting.remove(ticket)
      end(ticket)
    }
    this.#stopResumeTimer()
  }

  /** A new set of targets, or new places on them. */
  resize(targets: Target[]): void {
    // Frozen where a user's function sees it: sorting or cutting the array would change what the queue knows.
    if (typeof this.#settings.balance === 'function') Object.freeze(targets)
    this.#targets = targets
    this.#hashSlots.reset(targets)
    this.#pickFacts.fewest = 0
    this.#blocked = false
    this.#resumeAll()
    this.#updateGate()
  }

  /** Brings the gate in line with the places that there are. */
  #updateGate(): void {
    // What closed targets still serve counts, because those tasks count inside the gate until they end.
    let places = this.#inFlight
    for (const target of this.#targets) {
      if (target.freeSlots > 0) places += target.freeSlots
    }
    while (this.#endSlotTask.length > places) this.#endSlotTask.pop()?.()
    if (places === 0) {
      this.#gate.pause()
      return
    }
    if (places !== this.#gate.concurrency) this.#gate.concurrency = places
    if (this.#gate.isPaused) this.#gate.start()
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

  /** Serves who waits, as far as there are tasks; and asks the gate for one more while somebody waits. */
  #serveWaiting(): void {
    if (this.#isServing) return
    this.#isServing = true
    // With `finally`: an error that passed here once would otherwise stop this queue for ever.
    try {
      while (this.#waiting.size > this.#waiting.deferredCount && !this.#blocked) {
        if (this.#endSlotTask.length > this.#inFlight) this.#serveFirst()
        else if (this.#gate.size === 0) void this.#gate.add(this.#runSlotTask)
        else break
      }
    } finally {
      this.#isServing = false
    }
    if (this.#hasReportedWaiting && this.#waiting.size === 0) {
      this.#hasReportedWaiting = false
      this.#events.onChange()
    }
  }

  /** A task of the gate: it lasts until there is a place too many. */
  readonly #runSlotTask = (): Promise<void> => {
    const ended = new Promise<void>((resolve) => {
      this.#endSlotTask.push(resolve)
    })
    this.#serveWaiting()
    return ended
  }

  #serveFirst(): void {
    const attempt = this.#waiting.first as Attempt
    const targets = attempt.avoid ? this.#targetsForResend(attempt) : this.#targets
    // It was set aside.
    if (!targets) return
    const target = this.#pickTarget(targets, attempt)
    // A user's pick may have aborted the request, or closed the service: then another one is first now, or none.
    if (!attempt.isWaiting) return
    if (!target) {
      // There was a place, and there is none: a user's pick has changed something. The next change lifts this.
      this.#blocked = true
      return
    }
    this.#waiting.take(attempt)
    target.inFlight++
    this.#inFlight++
    attempt.run(target)
  }

  /**
   * Where a resend may go: to those that have not failed it; if they are all busy, it is set aside for one of them as
   * long as its patience lasts, and then goes to any.
   */
  #targetsForResend(attempt: Attempt): Target[] | undefined {
    const others = this.#targets.filter((target) => !attempt.hasFailedOn(target))
    if (others.some(({ freeSlots: free }) => free > 0)) return others
    const { exchange, joinedAt } = attempt
    const left = Math.min(
      remainingTime(exchange, this.#settings, joinedAt),
      this.#settings.queueTimeout || Number.POSITIVE_INFINITY,
    )
    const until = joinedAt + deferTimeout(exchange.attempts, left)
    if (others.length === 0 || now() >= until) return this.#targets
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

  /** Apart from `release`, which would have to make room for what the closure holds at each call. */
  #resumeFor(target: Target): void {
    this.#waiting.resumeFirst((attempt) => !attempt.hasFailedOn(target))
    this.#stopResumeTimer()
  }

  /** The last one that was set aside is not any more: nobody's patience has to be ended. */
  #stopResumeTimer(): void {
    if (this.#waiting.deferredCount > 0 || this.#resumeAt === Number.POSITIVE_INFINITY) return
    this.#resumeTimer?.clear()
    this.#resumeAt = Number.POSITIVE_INFINITY
  }

  /** All that were set aside try anew. */
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
    // It was the least, so that it is the bound, until a target with less gets a place free.
    if (isAll && attempt.pick === leastInFlight && facts.avoid < 0) facts.fewest = target.inFlight
    return target
  }

  /** An attempt has ended: its place is free again. */
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

  /** Ends all that waits with this error, and all that would join. */
  close(error: ManyhostError): void {
    this.#closed = error
    this.#expiry?.clear()
    this.#expiry = undefined
    this.#resumeAll()
    this.clear((attempt) => attempt.end(error))
  }

  reopen(): void {
    this.#closed = undefined
  }
}

/** A user's pick: what is no index of a target with a free place is replaced by `leastInFlight`. */
function guardPick(given: Pick, { service, report }: DispatchSettings): Pick {
  return guardFunction<Parameters<Pick>, number>(given, {
    what: `the balance of ${service}`,
    instead: 'least-in-flight picks the instance',
    service,
    report,
    wanted: 'the index of an instance with a free place',
    read: (index, targets) =>
      typeof index === 'number' && hasFreeSlot(targets[index]) ? index : undefined,
    fallback: leastInFlight,
  })
}

/** A user's `fairness`: without a usable key, the request shares the turn of those that have none. */
function guardFairness(
  given: (request: FairnessRequest) => string,
  { service, report }: DispatchSettings,
): (request: FairnessRequest) => string {
  return guardFunction<[FairnessRequest], string>(given, {
    what: `the fairness of ${service}`,
    instead: 'the request counts as one without a key',
    service,
    report,
    wanted: 'a text',
    read: parseFairnessKey,
    fallback: () => '',
  })
}

/** `undefined` and `null` are the key of a request without the header that was looked for; a finite number is a name. */
function parseFairnessKey(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (value === undefined || value === null) return ''
  const isName = typeof value === 'bigint' || typeof value === 'boolean' || Number.isFinite(value)
  return isName ? String(value) : undefined
}

function toFairnessRequest({ exchange }: Attempt): FairnessRequest {
  const { method, path, affinity, headers } = exchange.request
  const header = (name: string): string | undefined => {
    const wanted = name.toLowerCase()
    for (let i = 0; i < headers.length; i += 2) {
      if ((headers[i] as string).toLowerCase() === wanted) return headers[i + 1]
    }
    return undefined
  }
  return { method, path, affinity, header }
}
