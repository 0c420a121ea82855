/**
 * One queue a cluster feeds whichever instance has a free place first, so that no request waits behind a slow one
 * while another instance is idle.
 *
 * p-queue is the gate: its concurrency is the number of places, it is paused at none, and a task holds a place until
 * the body of its answer has ended. The order is kept in a `Line` beside it, because a task inside p-queue costs
 * 900 bytes and its priorities O(n): the gate holds one task, "serve whoever is first", for all that wait.
 */
import PQueue from 'p-queue'
import { ManyhostError } from '../errors.ts'
import { after, now, type Timer } from '../time.ts'
import type { Attempt } from './attempt.ts'
import { type Candidate, PICKS, type Pick, type PickFacts, rendezvous } from './balance.ts'
import { Line } from './line.ts'
import type { DispatchSettings, FairnessRequest } from './settings.ts'
import type { Target } from './target.ts'

const NOTHING = Promise.resolve()

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
  readonly #line = new Line()
  readonly #pick: Pick
  #targets: Target[] = []
  #serving = 0
  #turn = 0
  #pumping = false
  /** A pick found no target although the gate had a place: wait for a change rather than ask in a circle. */
  #blocked = false
  #expiry: Timer | undefined
  #closed: ManyhostError | undefined

  constructor(settings: DispatchSettings, events: QueueEvents) {
    this.#settings = settings
    this.#events = events
    this.#pick = typeof settings.balance === 'function' ? settings.balance : PICKS[settings.balance]
  }

  /** Requests that wait. */
  get size(): number {
    return this.#line.size
  }

  get isEmpty(): boolean {
    return this.#line.size === 0
  }

  /** Milliseconds that the longest-waiting request has waited; 0 when none waits. */
  get oldestAge(): number {
    const oldest = this.#line.oldest
    return oldest ? now() - oldest.joinedAt : 0
  }

  /** Requests that hold a place. */
  get inFlight(): number {
    return this.#serving
  }

  get targets(): readonly Target[] {
    return this.#targets
  }

  /** Whether a request that came now would be served at once. */
  get hasFreePlace(): boolean {
    return !this.#gate.isPaused && this.#gate.pending < this.#gate.concurrency
  }

  /**
   * Lets a request in, to be run when its turn comes.
   * @throws ManyhostError MANYHOST_QUEUE_FULL
   */
  join(attempt: Attempt): void {
    const { maxQueue, service } = this.#settings
    if (this.#closed) throw this.#closed
    if (this.#line.size >= maxQueue && !this.hasFreePlace) {
      throw new ManyhostError(
        'MANYHOST_QUEUE_FULL',
        `${service}: ${this.#line.size} requests wait already (maxQueue ${maxQueue})`,
        { service },
      )
    }
    const { priority, affinity } = attempt.exchange.facts
    const key = this.#settings.fairness ? this.#keyOf(attempt) : ''
    this.#line.join(attempt, now(), priority ?? 0, key)
    if (affinity === undefined) attempt.pick = this.#pick
    else attempt.pick = rendezvous
    this.#joined()
  }

  /** Lets a request in that was in line before: it comes before all others, whatever `maxQueue` says. */
  rejoin(attempt: Attempt): void {
    if (this.#closed) return attempt.end(this.#closed)
    attempt.pick = attempt.exchange.facts.affinity === undefined ? this.#pick : rendezvous
    const { startedAt } = attempt.exchange
    this.#line.joinFront(attempt, now(), (other) => other.exchange.startedAt <= startedAt)
    this.#joined()
  }

  /** Takes a waiting request out again. */
  leave(attempt: Attempt): void {
    if (this.#line.remove(attempt) && this.#line.size === 0) this.#events.onChange()
  }

  /** Gives every waiting request to `end`, oldest first, and forgets it. */
  clear(end: (attempt: Attempt) => void, olderThan = 0): void {
    const before = now() - olderThan
    for (let ticket = this.#line.oldest; ticket; ticket = this.#line.oldest) {
      if (ticket.joinedAt > before) break
      this.#line.remove(ticket)
      end(ticket as Attempt)
    }
  }

  /** A new set of targets, or new places on them. */
  resize(targets: Target[]): void {
    this.#targets = targets
    this.#blocked = false
    this.#retarget()
  }

  /** Brings the gate in line with the places that there are. */
  #retarget(): void {
    // What closed targets still serve counts, because those tasks count inside the gate until they end.
    let places = this.#serving
    for (const target of this.#targets) {
      if (target.open) places += Math.max(target.places, target.inFlight) - target.inFlight
    }
    if (places === 0) {
      this.#gate.pause()
      return
    }
    if (places !== this.#gate.concurrency) this.#gate.concurrency = places
    if (this.#gate.isPaused) this.#gate.start()
    this.#pump()
  }

  #joined(): void {
    this.#pump()
    if (this.#line.size === 0) return
    this.#events.onChange()
    if (!this.#expiry && this.#settings.queueTimeout > 0) this.#armExpiry()
  }

  /** Keeps one task at the gate for as long as anybody waits. A loop, since the gate may run it at once. */
  #pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    while (this.#line.size > 0 && this.#gate.size === 0 && !this.#blocked) {
      void this.#gate.add(this.#serve)
    }
    this.#pumping = false
  }

  readonly #serve = (): Promise<void> => {
    const attempt = this.#line.take() as Attempt | undefined
    if (!attempt) return NOTHING
    if (this.#line.size === 0) this.#events.onChange()
    const target = this.#targetFor(attempt)
    if (!target) {
      this.#blocked = true
      this.#line.joinFront(attempt, attempt.joinedAt, () => false)
      return NOTHING
    }
    target.inFlight++
    this.#serving++
    const ended = attempt.run(target)
    this.#pump()
    return ended
  }

  #targetFor(attempt: Attempt): Target | undefined {
    const targets = this.#targets
    const facts: PickFacts = {
      turn: this.#turn++,
      now: now(),
      random: this.#settings.random,
      affinity: attempt.exchange.facts.affinity,
      avoid: attempt.avoid ? targets.indexOf(attempt.avoid) : -1,
    }
    if (targets.length === 0) return undefined
    const index = attempt.pick(targets as readonly Candidate[], facts)
    const target = targets[index]
    return target && target.free > 0 ? target : undefined
  }

  /** An attempt has ended: its place is free again. */
  release(target: Target): void {
    target.inFlight--
    this.#serving--
    if (this.#blocked) {
      this.#blocked = false
      this.#pump()
    }
    if (target.open) return
    this.#retarget()
    if (target.inFlight === 0) this.#events.onDrained(target)
  }

  #keyOf(attempt: Attempt): string {
    const { method, path, affinity, headers } = attempt.exchange.facts
    const request: FairnessRequest = {
      method,
      path,
      affinity,
      header: (name) => {
        const wanted = name.toLowerCase()
        for (let i = 0; i < headers.length; i += 2) {
          if ((headers[i] as string).toLowerCase() === wanted) return headers[i + 1]
        }
        return undefined
      },
    }
    return String(this.#settings.fairness?.(request) ?? '')
  }

  #armExpiry(): void {
    const { queueTimeout } = this.#settings
    const oldest = this.#line.oldest
    this.#expiry = undefined
    if (!oldest) return
    const wait = Math.max(1, oldest.joinedAt + queueTimeout - now())
    this.#expiry = after(wait, () => {
      const why = this.#events.explain()
      this.clear((attempt) => attempt.expire(queueTimeout, why), queueTimeout)
      this.#armExpiry()
    })
  }

  /** Ends all that waits with this error, and all that would join. */
  close(error: ManyhostError): void {
    this.#closed = error
    this.#expiry?.clear()
    this.#expiry = undefined
    this.clear((attempt) => attempt.end(error))
  }
}
