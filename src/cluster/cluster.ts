/**
 * One service at run time: its queue of requests, its instances, its size. The loop is dull: it reads the size, asks
 * `reconcile` what to do, and does it; it runs at each tick, and at once when something happened.
 */
import { Dispatch } from '../dispatch/dispatch.ts'
import type { Exchange, RequestFacts, Sink } from '../dispatch/exchange.ts'
import type { TrafficStats } from '../dispatch/stats.ts'
import type { Target } from '../dispatch/target.ts'
import { ManyhostError } from '../errors.ts'
import type { Emitter, InstanceState, Outcome, SessionEvents } from '../events.ts'
import { SizeReader, type SizeSpec, toSize } from '../sizing/size.ts'
import type { SizedCluster } from '../sizing/sized.ts'
import { after, every, now, type Timer, until, wallClock } from '../time.ts'
import { Instance } from './instance.ts'
import { isLive } from './lifecycle.ts'
import { reconcile } from './reconcile.ts'
import type { ClusterSettings } from './settings.ts'
import { Starts } from './starts.ts'

/** Least time between two reads of a size that the queue asks for, in ms. */
const READ_GAP = 20
/** How often the quantiles forget half of what they know, in ms. */
const FADE_INTERVAL = 30_000
/** An instance that ends sooner than this after it became ready, having served nothing, has failed to start. */
const STILLBORN = 1_000

export interface CloseOptions {
  /** Ends running and waiting requests at once, with an error. @default false */
  readonly force?: boolean
  /** Milliseconds that running and waiting requests may take to end. @default drainTimeout */
  readonly timeout?: number
}

export interface ClusterParts {
  readonly emitter: Emitter<SessionEvents>
  /** A name for an instance, unique over all sessions. */
  readonly newId: () => string
  /** What it wants, has or serves has changed: the session's budget may be shared anew. */
  readonly onDemand: () => void
}

export class Cluster implements SizedCluster {
  readonly url: string
  readonly minSize: number
  readonly maxSize: number
  readonly concurrency: number
  /** Requests that wait. */
  readonly requestQueue: {
    readonly size: number
    readonly isEmpty: boolean
    readonly oldestAge: number
  }
  readonly #settings: ClusterSettings
  readonly #emitter: Emitter<SessionEvents>
  readonly #dispatch: Dispatch
  readonly #instances = new Map<string, Instance>()
  readonly #byTarget = new Map<Target, Instance>()
  readonly #newId: () => string
  readonly #onDemand: () => void
  readonly #reader: SizeReader
  readonly #ticks: Timer
  readonly #starts: Starts
  /** Instances that the session's budget leaves this cluster. */
  #allowance = Number.POSITIVE_INFINITY
  /** Ended instances that are not replaced (`onStop: 'ignore'`). */
  #ignored = 0
  #extra = 0
  #kicked = false
  #readAt = Number.NEGATIVE_INFINITY
  #readTimer: Timer | undefined
  #backoffTimer: Timer | undefined
  #fadedAt = now()
  #closing: Promise<void> | undefined
  #closed = false
  #raised: ManyhostError | undefined
  /** When it last had a request, on the clock of `now()`. */
  lastBusy = now()

  constructor(
    settings: ClusterSettings,
    initSize: number,
    { emitter, newId, onDemand }: ClusterParts,
  ) {
    this.url = settings.url
    this.minSize = settings.minSize
    this.maxSize = settings.maxSize
    this.concurrency = settings.concurrency
    this.#settings = settings
    this.#emitter = emitter
    this.#newId = newId
    this.#onDemand = onDemand
    this.#starts = new Starts(settings.random)
    this.#dispatch = new Dispatch(settings.dispatch, {
      explain: () => this.explain(),
      onQueueChange: () => this.#onQueueChange(),
      onDrained: (target) => void this.#byTarget.get(target)?.drained(),
      onSuspect: (target, error, eject) => {
        const instance = this.#byTarget.get(target)
        if (eject) instance?.eject(error)
        else void instance?.confirm(error)
      },
      onResend: (exchange, attempt, reason) => {
        if (!emitter.has('resend')) return
        emitter.emit('resend', {
          service: this.url,
          id: exchange.facts.id,
          attempt: attempt.number,
          instance: attempt.target?.id ?? '',
          reason,
          at: wallClock(),
        })
      },
      onSettled: (exchange, outcome, status) => this.#onSettled(exchange, outcome, status),
    })
    this.requestQueue = this.#dispatch.queue
    this.#reader = new SizeReader(toSize(initSize, this), {
      initial: initSize,
      minSize: settings.minSize,
      maxSize: settings.maxSize,
      service: settings.url,
      onSize: (wanted) => this.#onSize(wanted),
      onError: (error) => emitter.emit('error', error),
    })
    this.#ticks = every(settings.tickInterval, () => this.#tick())
    this.kick()
  }

  /** Wanted instances. */
  get size(): number {
    return this.#reader.size
  }

  /** Instances that are not at their end yet. */
  get instances(): readonly Instance[] {
    return [...this.#instances.values()]
  }

  /** Requests that an instance serves now. */
  get inFlight(): number {
    return this.#dispatch.queue.inFlight
  }

  /** Why the service refuses requests (`onStop: 'raise'`), if it does. */
  get failure(): ManyhostError | undefined {
    return this.#raised ?? this.#starts.failure
  }

  /** Counts and latencies of the requests; for the raw numbers behind metrics see `traffic`. */
  stats(): TrafficStats {
    return this.#dispatch.stats.read()
  }

  /** @internal for metrics */
  get traffic(): Dispatch['stats'] {
    return this.#dispatch.stats
  }

  /** @internal for metrics */
  get starts(): Starts {
    return this.#starts
  }

  get isClosed(): boolean {
    return this.#closed
  }

  /** @internal Defaults for the client: limits on what is kept of a body. */
  get settings(): ClusterSettings {
    return this.#settings
  }

  send(facts: RequestFacts, sink: Sink): Exchange {
    return this.#dispatch.send(facts, sink)
  }

  /**
   * Another size from now on: an integer, a function, a class, or an object that is read as a number.
   * @throws ManyhostError MANYHOST_INVALID_SIZE
   */
  setSize(size: SizeSpec<Cluster>): void {
    const source = toSize(size, this)
    this.#ignored = 0
    if (this.#raised) {
      this.#raised = undefined
      this.#dispatch.refuse(undefined)
    }
    this.#reader.replace(source)
    this.#reader.read()
    this.kick()
  }

  /**
   * Lets an instance end what it serves and stops it; another takes its place as far as one is wanted. False if there
   * is no such instance.
   */
  drain(id: string): boolean {
    const instance = this.#instances.get(id)
    if (!instance) return false
    void instance.drain('drained by hand')
    return true
  }

  /** Instances beyond its size, while one replaces another. @internal */
  get extra(): number {
    return this.#extra
  }

  set extra(instances: number) {
    this.#extra = instances
    this.kick()
  }

  /** What the session's budget leaves it. */
  allow(instances: number): void {
    if (instances === this.#allowance) return
    this.#allowance = instances
    this.kick()
  }

  /** `3 wanted, 1 ready, 2 starting; last start failed: ...` */
  explain(): string {
    const states = new Map<InstanceState, number>()
    for (const { state } of this.#instances.values())
      states.set(state, (states.get(state) ?? 0) + 1)
    const counts = [...states].map(([state, count]) => `${count} ${state}`)
    const { failure } = this
    const wanted = `${this.#wanted()} wanted, ${counts.join(', ') || 'no instance'}`
    return failure ? `${wanted}; the last failure: ${failure.message}` : wanted
  }

  /** Runs the loop soon: once, however often it is asked in one turn. */
  kick(): void {
    if (this.#kicked || this.#closed) return
    this.#kicked = true
    queueMicrotask(() => {
      this.#kicked = false
      this.#reconcile()
    })
  }

  #tick(): void {
    this.#read()
    if (now() - this.#fadedAt > FADE_INTERVAL) {
      this.#fadedAt = now()
      this.#dispatch.stats.fade()
    }
    if (!this.#dispatch.isIdle) this.lastBusy = now()
    this.kick()
  }

  #read(): void {
    this.#readAt = now()
    this.#readTimer?.clear()
    this.#readTimer = undefined
    this.#reader.read()
  }

  #onQueueChange(): void {
    if (this.#readTimer || this.#closed) return
    this.lastBusy = now()
    this.#onDemand()
    const wait = this.#readAt + READ_GAP - now()
    this.#readTimer = after(Math.max(0, wait), () => {
      this.#read()
      this.kick()
    })
  }

  #onSize(size: number): void {
    this.#ignored = 0
    this.#emitter.emit('cluster', { service: this.url, change: 'resized', size, at: wallClock() })
    this.#onDemand()
    this.kick()
  }

  #wanted(): number {
    return Math.max(0, Math.min(this.#reader.size + this.#extra, this.#allowance) - this.#ignored)
  }

  #reconcile(): void {
    if (this.#closed || this.#raised) return
    const plan = reconcile({
      wanted: this.#wanted(),
      instances: this.instances,
      maxStarting: this.#settings.maxStarting,
      startAt: this.#starts.nextAt,
      now: now(),
    })
    for (const id of plan.cancel) void this.#instances.get(id)?.drain('not wanted any more')
    for (const id of plan.drain) void this.#instances.get(id)?.drain('scaled down')
    for (const id of plan.start) void this.#instances.get(id)?.start()
    for (let made = 0; made < plan.create; made++) {
      const instance = this.#make()
      if (made < plan.startable) void instance.start()
    }
    if (plan.create > 0 || this.#starts.nextAt > now()) this.#wakeForBackoff()
  }

  #wakeForBackoff(): void {
    const wait = this.#starts.nextAt - now()
    if (wait <= 0 || this.#backoffTimer) return
    this.#backoffTimer = after(wait, () => {
      this.#backoffTimer = undefined
      this.kick()
    })
  }

  #make(): Instance {
    const instance = new Instance(this.#newId(), this.#settings, {
      onState: (which, from, reason) => this.#onState(which, from, reason),
      onPlaces: () => this.#retarget(),
    })
    this.#instances.set(instance.id, instance)
    this.#tell(instance, undefined, '')
    return instance
  }

  #onState(instance: Instance, from: InstanceState, reason: string): void {
    const { state, target } = instance
    if (target) this.#byTarget.set(target, instance)
    if (state === 'failed' || state === 'stopped') {
      this.#instances.delete(instance.id)
      if (target) this.#byTarget.delete(target)
      this.#onDemand()
    }
    if (from === 'starting' && state === 'ready') this.#starts.succeeded(instance.startDuration)
    if (state === 'failed') this.#onFailed(instance, from)
    this.#retarget()
    this.#tell(instance, from, reason)
    this.kick()
  }

  #onFailed(instance: Instance, from: InstanceState): void {
    const failure = instance.failure as ManyhostError
    if (from === 'pending' || from === 'starting') {
      this.#starts.failed(failure)
      this.#emitter.emit('error', failure)
      this.#giveUpOnStalled()
      return
    }
    const stillborn = now() - instance.readyAt < STILLBORN && instance.target?.served === 0
    if (stillborn) this.#starts.failed(failure)
    const { onStop } = this.#settings
    if (onStop === 'restart') return
    if (onStop === 'raise') this.#raise(failure)
    else this.#ignored++
    if (onStop === 'ignore' && this.#wanted() === 0) this.#raise(failure)
  }

  /** The service is over: whoever waits or comes is told why, until a size is set again. */
  #raise(failure: ManyhostError): void {
    this.#raised = failure
    this.#dispatch.refuse(failure)
    // The requests that the instance had are in line again a moment later, and are to hear of it, too.
    queueMicrotask(() => this.#dispatch.endWaiting(failure))
    this.#emitter.emit('error', failure)
    this.#emitter.emit('cluster', {
      service: this.url,
      change: 'failed',
      size: this.size,
      reason: failure.message,
      at: wallClock(),
    })
  }

  /** Nothing is up and nothing has come up for so long as a start may take: who waits that long is told why. */
  #giveUpOnStalled(): void {
    const { startTimeout } = this.#settings
    const isUp = this.instances.some(({ state }) => state === 'ready' || state === 'unready')
    if (isUp || this.#starts.failingFor(now()) < startTimeout) return
    this.#dispatch.endWaiting(this.#starts.failure as ManyhostError, startTimeout)
  }

  #retarget(): void {
    const targets: Target[] = []
    for (const { target, state } of this.#instances.values()) {
      if (target && state === 'ready') targets.push(target)
    }
    this.#dispatch.resize(targets)
  }

  #tell(instance: Instance, from: InstanceState | undefined, reason: string): void {
    if (!this.#emitter.has('instance')) return
    this.#emitter.emit('instance', {
      service: this.url,
      instance: instance.id,
      state: instance.state,
      ...(from && { from }),
      ...(reason && { reason }),
      ...(instance.state === 'failed' && { output: instance.output.lines(20) }),
      provider: instance.provider,
      at: wallClock(),
    })
  }

  #onSettled(exchange: Exchange, outcome: Outcome, status: number): void {
    if (!this.#emitter.has('request')) return
    this.#emitter.emit('request', {
      service: this.url,
      id: exchange.facts.id,
      method: exchange.facts.method,
      path: exchange.facts.path,
      outcome,
      status,
      duration: now() - exchange.startedAt,
      attempts: exchange.attempts,
      at: wallClock(),
    })
  }

  /** Live instances and load, for the session's budget. */
  get demand(): { wanted: number; running: number; load: number } {
    let running = 0
    for (const { state } of this.#instances.values()) if (isLive(state)) running++
    return {
      wanted: Math.max(0, this.#reader.size - this.#ignored),
      running,
      load: this.requestQueue.size + this.inFlight,
    }
  }

  /**
   * No new request from now on; running and waiting ones end, and the instances stop. With `force`, or when `timeout`
   * is over, what is left ends with an error. Resolves when nothing is left. Idempotent; a later `force` is heeded.
   */
  close(options: CloseOptions = {}): Promise<void> {
    const error = new ManyhostError(
      'MANYHOST_SESSION_CLOSED',
      `${this.url}: the service is closed`,
      {
        service: this.url,
      },
    )
    this.#dispatch.refuse(error)
    if (options.force) this.#cutOff(error)
    this.#closing ??= this.#close(options, error)
    return this.#closing
  }

  async #close({ force, timeout }: CloseOptions, error: ManyhostError): Promise<void> {
    if (!force) await this.#finish(timeout ?? this.#settings.drainTimeout)
    this.#cutOff(error)
    this.#ticks.clear()
    this.#readTimer?.clear()
    this.#backoffTimer?.clear()
    this.#reader.close()
    const ends = this.instances.map((instance) =>
      force || instance.inFlight > 0
        ? instance.kill('the session was closed')
        : instance.drain('the session was closed'),
    )
    await Promise.all(ends)
    // A start that was given up may still have to be taken back by its provider.
    await until(() => this.#instances.size === 0)
    this.#emitter.emit('cluster', {
      service: this.url,
      change: 'closed',
      size: 0,
      at: wallClock(),
    })
  }

  /** Lets what runs and waits come to its end. Who waits for an instance that will not come is told at once. */
  async #finish(timeout: number): Promise<void> {
    const isServed = (): boolean => this.#wanted() > 0 && this.#starts.failure === undefined
    if (this.inFlight === 0 && !isServed()) return
    await until(() => this.#closed || this.#dispatch.isIdle, timeout)
  }

  #cutOff(error: ManyhostError): void {
    this.#closed = true
    this.#dispatch.close(error)
    this.#dispatch.resize([])
    for (const { target } of this.#instances.values()) {
      if (!target) continue
      target.open = false
      target.interrupt(error)
    }
  }
}
