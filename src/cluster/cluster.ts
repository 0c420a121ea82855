/**
 * A service at run time: its request queue, its instances, its size. The loop is simple: it reads the size, asks `reconcile`
 * for a plan, and carries the plan out. It runs at each tick, and soon after each event.
 */

import { ManyhostError } from '../core/errors.ts'
import type { InstanceState } from '../core/events.ts'
import { after, every, now, type Timer, until } from '../core/time.ts'
import { Dispatch } from '../dispatch/dispatch.ts'
import type { Exchange, RequestInput, ResponseSink } from '../dispatch/exchange.ts'
import type { TrafficStats } from '../dispatch/stats.ts'
import { SizeReader, type SizeSpec, toSize } from '../sizing/size.ts'
import type { SizedCluster } from '../sizing/sized-cluster.ts'
import { ClusterEventEmitter } from './cluster-event-emitter.ts'
import type { CloseOptions, ClusterParts } from './cluster-parts.ts'
import type { Instance } from './instance.ts'
import { type FailureDecision, InstanceFailures } from './instance-failures.ts'
import { InstanceSet } from './instance-set.ts'
import { ProviderCalls } from './provider-calls.ts'
import { reconcile } from './reconcile.ts'
import type { ClusterSettings } from './settings.ts'
import type { StartHistory } from './start-history.ts'

/** Milliseconds between two reads of the size that changes of the queue cause. */
const MIN_READ_INTERVAL = 20
/** Milliseconds between two decays of the quantiles, which halve the weight of older values. */
const DECAY_INTERVAL = 30_000

export class Cluster implements SizedCluster {
  readonly url: string
  readonly minSize: number
  readonly maxSize: number
  readonly concurrency: number
  /** Requests that wait for a slot. */
  readonly requestQueue: {
    readonly size: number
    readonly isEmpty: boolean
    readonly oldestAge: number
  }
  readonly #settings: ClusterSettings
  readonly #events: ClusterEventEmitter
  readonly #dispatch: Dispatch
  readonly #instances: InstanceSet
  readonly #onDemandChange: () => void
  readonly #availableInstances: () => number
  readonly #onClosed: () => void
  readonly #reader: SizeReader
  readonly #tickTimer: Timer
  readonly #providerCalls: ProviderCalls
  readonly #unsubscribe: () => void
  readonly #failures: InstanceFailures
  /** Instances that the session's budget leaves this cluster. */
  #allowance = Number.POSITIVE_INFINITY
  #extraInstances = 0
  #isReconcileScheduled = false
  #lastReadAt = Number.NEGATIVE_INFINITY
  #readTimer: Timer | undefined
  #backoffTimer: Timer | undefined
  #lastDecayAt = now()
  #closing: Promise<void> | undefined
  #closed = false
  /** When the cluster last had a request, on the clock of `now()`. @internal */
  lastBusy = now()

  constructor(
    settings: ClusterSettings,
    initSize: number,
    { emitter, newId, onDemandChange, availableInstances, onClosed }: ClusterParts,
  ) {
    this.url = settings.url
    this.minSize = settings.minSize
    this.maxSize = settings.maxSize
    this.concurrency = settings.concurrency
    this.#settings = settings
    this.#events = new ClusterEventEmitter(settings.url, emitter)
    this.#onDemandChange = onDemandChange
    this.#availableInstances = availableInstances
    this.#onClosed = onClosed
    this.#providerCalls = new ProviderCalls(settings.provider, settings.url, settings.report)
    this.#instances = this.#createInstanceSet(newId)
    this.#failures = new InstanceFailures(settings, this.#instances)
    this.#dispatch = this.#createDispatch()
    this.requestQueue = this.#dispatch.queue
    this.#reader = this.#createSizeReader(initSize)
    this.#tickTimer = every(settings.tickInterval, () => this.#tick())
    this.#unsubscribe = this.#providerCalls.onAvailable(() => {
      this.starts.endBackoff()
      this.requestReconcile()
    })
    this.requestReconcile()
  }

  #createInstanceSet(newId: () => string): InstanceSet {
    return new InstanceSet(this.#settings, this.#providerCalls, newId, {
      onState: (instance, from, reason) => this.#onState(instance, from, reason),
      onSlots: () => this.#updateTargets(),
      onGone: () => {
        this.#onDemandChange()
        this.requestReconcile()
      },
    })
  }

  #createDispatch(): Dispatch {
    return new Dispatch(this.#settings.dispatch, {
      explain: () => this.describeState(),
      onQueueChange: () => this.#onQueueChange(),
      onDrained: (target) => void this.#instances.get(target.id)?.onDrained(),
      onSuspect: (target, error, eject) => {
        const instance = this.#instances.get(target.id)
        if (eject) instance?.eject(error)
        else void instance?.checkConnection(error)
      },
      onResend: (exchange, attempt, reason) => this.#events.emitResend(exchange, attempt, reason),
      onSettled: (exchange, outcome, status) => this.#events.emitRequest(exchange, outcome, status),
    })
  }

  #createSizeReader(initSize: number): SizeReader {
    const { minSize, maxSize, url } = this.#settings
    return new SizeReader(toSize(initSize, this), {
      initial: initSize,
      minSize,
      maxSize,
      service: url,
      onSize: (wanted) => this.#onSize(wanted),
      onError: (error) => this.#events.emitError(error),
    })
  }

  /** Wanted instances. */
  get size(): number {
    return this.#reader.size
  }

  /** Instances that have neither stopped nor failed. */
  get instances(): readonly Instance[] {
    return this.#instances.all
  }

  /** Requests that instances serve now. */
  get inFlight(): number {
    return this.#dispatch.queue.inFlight
  }

  /** Why the service refuses requests (`onStop`), or why the last start failed. */
  get failure(): ManyhostError | undefined {
    return this.#failures.failure
  }

  /** Counts and latencies of the requests. */
  stats(): TrafficStats {
    return this.#dispatch.stats.read()
  }

  /** @internal for metrics */
  get traffic(): Dispatch['stats'] {
    return this.#dispatch.stats
  }

  /** @internal for metrics */
  get starts(): StartHistory {
    return this.#failures.starts
  }

  get isClosed(): boolean {
    return this.#closed
  }

  /** @internal The client reads the limits of bodies from it. */
  get settings(): ClusterSettings {
    return this.#settings
  }

  send(request: RequestInput, sink: ResponseSink): Exchange {
    return this.#dispatch.send(request, sink)
  }

  /**
   * Sets the size: an integer, a function, a class, or an object that is read as a number.
   * @throws ManyhostError MANYHOST_INVALID_SIZE
   */
  setSize(size: SizeSpec<Cluster>): void {
    const source = toSize(size, this)
    this.#failures.resetIgnored()
    if (this.#failures.clearFailure() && !this.#closing) this.#dispatch.reopen()
    this.#reader.replace(source)
    this.#reader.read()
    this.requestReconcile()
  }

  /**
   * Lets an instance finish its requests and stops it. Another instance replaces it if one is wanted.
   * @returns false if there is no such instance
   */
  drain(id: string): boolean {
    const instance = this.#instances.get(id)
    instance?.drain('drained by hand')
    return instance !== undefined
  }

  /** Instances beyond the size, while one instance replaces another. @internal */
  get extraInstances(): number {
    return this.#extraInstances
  }

  set extraInstances(instances: number) {
    this.#extraInstances = instances
    this.requestReconcile()
  }

  /** Sets how many instances the session's budget leaves to this cluster. @internal */
  setAllowance(instances: number): void {
    this.#allowance = instances
    this.requestReconcile()
  }

  /** The state as text: `3 wanted, 1 ready, 2 starting; the last failure: ...` */
  describeState(): string {
    const { failure } = this
    const wanted = `${this.#effectiveSize()} wanted, ${this.#instances}`
    return failure ? `${wanted}; the last failure: ${failure.message}` : wanted
  }

  /** Runs the loop soon, and only once for all calls of one turn. @internal */
  requestReconcile(): void {
    if (this.#isReconcileScheduled || this.#closed) return
    this.#isReconcileScheduled = true
    queueMicrotask(() => {
      this.#isReconcileScheduled = false
      this.#reconcile()
    })
  }

  #tick(): void {
    this.#read()
    if (now() - this.#lastDecayAt > DECAY_INTERVAL) {
      this.#lastDecayAt = now()
      this.#dispatch.stats.fade()
    }
    if (!this.#dispatch.isIdle) this.lastBusy = now()
    this.#applyDecision(this.#failures.checkStalled())
    // The load may have changed although no request had to wait.
    this.#onDemandChange()
    this.requestReconcile()
  }

  #read(): void {
    this.#lastReadAt = now()
    this.#readTimer?.clear()
    this.#readTimer = undefined
    this.#reader.read()
  }

  #onQueueChange(): void {
    if (this.#readTimer || this.#closed) return
    this.lastBusy = now()
    this.#onDemandChange()
    const wait = this.#lastReadAt + MIN_READ_INTERVAL - now()
    this.#readTimer = after(Math.max(0, wait), () => {
      this.#read()
      this.requestReconcile()
    })
  }

  #onSize(size: number): void {
    this.#failures.resetIgnored()
    this.#events.emitCluster('resized', size)
    this.#onDemandChange()
    this.requestReconcile()
  }

  #effectiveSize(): number {
    return this.#failures.effectiveSize(
      Math.min(this.#reader.size + this.#extraInstances, this.#allowance),
    )
  }

  #reconcile(): void {
    if (this.#closed) return
    const at = now()
    const plan = reconcile({
      wanted: this.#effectiveSize(),
      instances: this.instances,
      maxStarting: this.#settings.maxStarting,
      available: Math.min(
        this.#availableInstances(),
        this.#providerCalls.maxInstances - this.#instances.heldCount,
      ),
      startAt: this.starts.nextStartAt,
      now: at,
    })
    this.#instances.applyPlan(plan)
    this.#scheduleBackoffEnd(at)
  }

  /** Uses the same time as the plan. The backoff may have ended since, and then nothing else would run the loop again. */
  #scheduleBackoffEnd(at: number): void {
    const wait = this.starts.nextStartAt - at
    if (wait <= 0 || this.#backoffTimer) return
    this.#backoffTimer = after(wait, () => {
      this.#backoffTimer = undefined
      this.requestReconcile()
    })
  }

  #onState(instance: Instance, from: InstanceState | undefined, reason: string): void {
    const { state } = instance
    if (state === 'failed' || state === 'stopped') this.#onDemandChange()
    if (from === 'starting' && state === 'ready') this.starts.recordSuccess(instance.startDuration)
    if (state === 'failed') this.#onFailed(instance, from as InstanceState)
    if (state === 'unready') this.traffic.ejections++
    if (from) this.#updateTargets()
    this.#events.emitInstance(instance, from, reason)
    this.requestReconcile()
  }

  #onFailed(instance: Instance, from: InstanceState): void {
    const decision = this.#failures.recordFailure(instance, from, this.size)
    if (from === 'starting') this.#events.emitError(instance.failure as ManyhostError)
    this.#applyDecision(decision)
  }

  #applyDecision(decision: FailureDecision): void {
    const { failure } = this
    if (decision === 'none' || !failure) return
    if (decision === 'stall') {
      this.#dispatch.endWaiting(failure, this.#settings.startTimeout)
    } else if (!this.#closed) {
      // All requests fail until a size is set again.
      this.#dispatch.close(failure)
      this.#events.emitError(failure)
      this.#events.emitCluster('failed', this.size, failure.message)
    }
  }

  #updateTargets(): void {
    this.#dispatch.resize(this.#instances.targets())
  }

  /** Instances and load, for the session's budget. @internal */
  get demand(): { wanted: number; running: number; held: number; load: number } {
    return {
      wanted: this.#failures.effectiveSize(this.#reader.size),
      running: this.#instances.liveCount,
      held: this.#instances.heldCount,
      load: this.requestQueue.size + this.inFlight,
    }
  }

  /**
   * Refuses new requests, lets running and waiting requests end, and stops the instances. With `force`, or after `timeout`,
   * the requests that are left fail. Resolves when nothing is left. Idempotent; a later call with `force` takes effect.
   */
  close(options: CloseOptions = {}): Promise<void> {
    const text = `${this.url}: the service is closed`
    const error = new ManyhostError('MANYHOST_SESSION_CLOSED', text, { service: this.url })
    this.#dispatch.refuse(error)
    if (options.force) {
      this.#endRemainingRequests(error)
      void this.#instances.end('the session was closed by force', true)
    }
    this.#closing ??= this.#close(options, error)
    return this.#closing
  }

  async #close({ force, timeout }: CloseOptions, error: ManyhostError): Promise<void> {
    if (!force) await this.#waitForRequests(timeout ?? this.#settings.drainTimeout)
    this.#endRemainingRequests(error)
    this.#tickTimer.clear()
    this.#unsubscribe()
    this.#readTimer?.clear()
    this.#backoffTimer?.clear()
    this.#reader.close()
    await this.#instances.end('the session was closed', false)
    this.#onClosed()
    this.#events.emitCluster('closed', 0)
  }

  /** Waits until no request runs or waits, or until requests wait only for instances that will not come. */
  async #waitForRequests(timeout: number): Promise<void> {
    // A request may have come since the last read of the size, and the size may depend on it.
    this.#read()
    const isServed = (): boolean => this.#effectiveSize() > 0 && this.starts.failure === undefined
    const isOver = (): boolean =>
      this.#closed || this.#dispatch.isIdle || (this.inFlight === 0 && !isServed())
    await until(isOver, timeout)
  }

  #endRemainingRequests(error: ManyhostError): void {
    this.#closed = true
    this.#dispatch.close(error)
    this.#dispatch.resize([])
    this.#instances.interrupt(error)
  }
}
