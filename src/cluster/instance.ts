/**
 * One instance from its making to its end. It is the only writer of its state, keeps to the table in `lifecycle.ts`
 * and says each transition once. What it is for is decided in `cluster.ts`; here it starts, is watched, and stops.
 */

import { settleOrAbort } from '../core/abort.ts'
import { exponentialDelay } from '../core/backoff.ts'
import { type Deferred, deferred } from '../core/deferred.ts'
import { asError, describeError, ManyhostError } from '../core/errors.ts'
import type { InstanceState } from '../core/events.ts'
import { OutputTail } from '../core/output-tail.ts'
import type { Exit, Running } from '../core/provider.ts'
import { waitForExit } from '../core/provider-checks.ts'
import { after, every, now, resolveWithin, sleep, type Timer, wallClock } from '../core/time.ts'
import { Target } from '../dispatch/target.ts'
import { canTransition } from './lifecycle.ts'
import {
  type HealthChecks,
  httpProbe,
  probeConnection,
  startHealthChecks,
  waitUntilInstanceReady,
} from './probe.ts'
import type { ProviderCalls } from './provider-calls.ts'
import type { ClusterSettings } from './settings.ts'

/** What an instance tells its cluster. */
export interface InstanceEvents {
  onState(from: InstanceState, reason: string): void
  /** It has more places than before. */
  onSlots(): void
}

/** Characters of its output that an instance keeps. */
const MAX_OUTPUT_LENGTH = 65_536
/** Probes after an ejection, and ejections in a row with nothing served between, before an instance is given up. */
const MAX_REJOIN_PROBES = 6
/** Milliseconds between two such probes. */
const REJOIN_BACKOFF = { min: 10, max: 2_000 }
/** How long the answer to such a probe may take, in ms. */
const PROBE_TIMEOUT = 1_000
/** How much longer than its grace a provider may take for a stop before nobody waits for it any more, in ms. */
const STOP_TIMEOUT_EXTRA = 10_000
/** One that lived for so long after it became ready has not failed to start, even if it served nothing, in ms. */
const MIN_LIFETIME = 1_000

export class Instance {
  readonly id: string
  /** Milliseconds since 1970. */
  readonly startedAt = wallClock()
  readonly provider: string
  readonly output = new OutputTail(MAX_OUTPUT_LENGTH)
  #state: InstanceState = 'pending'
  target: Target | undefined
  /** When it became ready, on the clock of `now()`. */
  readyAt = 0
  /** Milliseconds from the start of its start to ready. */
  startDuration = 0
  /** Why it ended. */
  failure: ManyhostError | undefined
  readonly #settings: ClusterSettings
  readonly #providerCalls: ProviderCalls
  readonly #events: InstanceEvents
  readonly #ending = new AbortController()
  readonly #gone: Deferred<void> = deferred()
  /** What the provider answers with: it may come to run after its start was given up. */
  #starting: Promise<Running> | undefined
  #running: Running | undefined
  #healthChecks: HealthChecks | undefined
  #rampTimer: Timer | undefined
  #drainTimer: Timer | undefined
  /** Ejections in a row. */
  #consecutiveEjections = 0
  /** What it had served when it was ejected last. */
  #servedAtEjection = 0
  /** Probes decide whether it is ready, not its health check. */
  #isRejoining = false

  constructor(id: string, settings: ClusterSettings, calls: ProviderCalls, events: InstanceEvents) {
    this.id = id
    this.#providerCalls = calls
    this.provider = settings.provider.name
    this.#settings = settings
    this.#events = events
  }

  get state(): InstanceState {
    return this.#state
  }

  /** Resolves when it has ended and nothing of it is left. */
  get gone(): Promise<void> {
    return this.#gone.promise
  }

  /** Requests that it serves now. */
  get inFlight(): number {
    return this.target?.inFlight ?? 0
  }

  /** Whether it came up in earnest: it has served something, or lived for a while. */
  get isProven(): boolean {
    if (!this.target) return false
    return this.target.served > 0 || now() - this.readyAt >= MIN_LIFETIME
  }

  /** Where it listens. */
  get address(): string | undefined {
    return this.#running?.address
  }

  #transition(state: InstanceState, reason = ''): boolean {
    const from = this.#state
    if (!canTransition(from, state)) return false
    this.#state = state
    if (this.target) this.target.open = state === 'ready'
    this.#events.onState(from, reason)
    return true
  }

  /** Starts it, and resolves when it is ready or has ended. Never rejects. */
  async start(): Promise<void> {
    const begun = now()
    if (!this.#transition('starting')) return
    const { signal } = this.#ending
    const { ready } = this.#settings
    const limit = this.#startStartTimer()
    let lastTry: unknown
    try {
      this.#starting = this.#requestStart(signal)
      this.#running = await settleOrAbort(this.#starting, signal)
      void waitForExit(this.#running).then((exit) => this.#onExit(exit))
      void this.#providerCalls.whenLeaving(this.#running, (reason) => this.drain(reason))
      await waitUntilInstanceReady(this.#running, { path: ready, signal }, (error) => {
        lastTry = error
      })
      // It may have been given up in the same turn in which it became ready.
      signal.throwIfAborted()
      this.startDuration = now() - begun
      this.#onReady(this.#running)
    } catch (error) {
      if (this.#state === 'starting') this.#failStart(error, lastTry)
      await this.#stop(0)
      this.#transition('stopped')
    } finally {
      limit.clear()
    }
  }

  async #requestStart(signal: AbortSignal): Promise<Running> {
    // Not at once: what the provider does meanwhile may end this instance, and what comes of the start is known then.
    await undefined
    signal.throwIfAborted()
    const onOutput = (chunk: string): void => this.output.append(String(chunk))
    return this.#providerCalls.start({ ...this.#settings.spec, id: this.id, onOutput }, signal)
  }

  #startStartTimer(): Timer {
    const { startTimeout, url } = this.#settings
    return after(startTimeout, () => {
      const text = `${url}: ${this.id} was not ready within ${startTimeout} ms (startTimeout)`
      this.#ending.abort(new ManyhostError('MANYHOST_START_TIMEOUT', text, { service: url }))
    })
  }

  #failStart(thrown: unknown, lastTry: unknown): void {
    const { url } = this.#settings
    const error = asError(thrown)
    const tried = lastTry && isStartTimeout(error) ? `; last try: ${describeError(lastTry)}` : ''
    const output = this.output.lastLines(20)
    const code = isStartTimeout(error) ? 'MANYHOST_START_TIMEOUT' : 'MANYHOST_START_FAILED'
    const what = `${url}: ${this.id} could not be started: ${describeError(error)}${tried}`
    this.failure = new ManyhostError(code, output ? `${what}\n${output}` : what, {
      cause: error,
      service: url,
      output: this.output.text(),
    })
    this.#transition('failed', describeError(error))
  }

  #onReady(running: Running): void {
    const { slowStart, health } = this.#settings
    const concurrency = this.#providerCalls.slotsOf(running, this.#settings.concurrency)
    this.readyAt = now()
    const ramps = slowStart > 0 && Number.isFinite(concurrency)
    const slots = ramps ? 1 : concurrency
    this.target = new Target(this.id, running.dispatcher, slots, tlsServerName(running.address))
    if (!this.#transition('ready')) return
    if (slots < concurrency) this.#rampUp(this.target, concurrency)
    if (health) {
      const check = (): Promise<void> =>
        httpProbe(running.dispatcher, health.path, health.interval, this.#ending.signal)
      this.#healthChecks = startHealthChecks(health.interval, check, (failures, why) =>
        this.#onHealth(failures, health.threshold, why),
      )
    }
  }

  #rampUp(target: Target, maxSlots: number): void {
    this.#rampTimer = every(this.#settings.slowStart / (maxSlots - 1), () => {
      target.slots++
      if (target.slots >= maxSlots) this.#rampTimer?.clear()
      this.#events.onSlots()
    })
  }

  #onHealth(failures: number, threshold: number, why: string): void {
    const reason = `health check failed ${failures} times in a row: ${why}`
    if (failures === 0) {
      if (!this.#isRejoining) this.#transition('ready', 'its health check passed')
    } else if (failures === threshold) {
      this.#transition('unready', reason)
      this.target?.interrupt(this.#createError('MANYHOST_INSTANCE_UNHEALTHY', reason))
    } else if (failures >= 2 * threshold) {
      this.fail('MANYHOST_INSTANCE_UNHEALTHY', reason)
    }
  }

  /**
   * A connection to it broke. Until one knock has shown that it is still there it gets no request: those that are sent
   * again would else be given to the place that has just become free, on the instance that has just died.
   */
  async checkConnection(cause: Error): Promise<void> {
    const { target } = this
    const running = this.#running
    if (this.#state !== 'ready' || !target?.open || !running?.accepts) return
    target.open = false
    this.#events.onSlots()
    try {
      await probeConnection(running, PROBE_TIMEOUT, this.#ending.signal)
    } catch {
      this.eject(cause)
      return
    }
    // Meanwhile it may have become unready, or have been asked to end.
    if (this.state !== 'ready') return
    target.open = true
    this.#events.onSlots()
  }

  /** Requests on it failed: it gets no more until a probe passes. What it serves, it may end. */
  eject(cause: Error): void {
    const why = `ejected: ${describeError(cause)}`
    const served = this.target?.served ?? 0
    if (!this.#transition('unready', why)) return
    // They count in a row only while nothing is served between them.
    this.#consecutiveEjections =
      served > this.#servedAtEjection ? 1 : this.#consecutiveEjections + 1
    this.#servedAtEjection = served
    if (this.#consecutiveEjections <= MAX_REJOIN_PROBES) void this.#rejoin()
    else
      this.fail(
        'MANYHOST_INSTANCE_UNHEALTHY',
        `${why}, ${this.#consecutiveEjections} times in a row`,
      )
  }

  async #rejoin(): Promise<void> {
    this.#isRejoining = true
    let why = ''
    for (let tries = 0; tries < MAX_REJOIN_PROBES && this.#state === 'unready'; tries++) {
      // The first probe is sent at once. Each further probe, and each further ejection in a row, waits longer.
      const failures = tries + this.#consecutiveEjections - 1
      try {
        if (failures > 0)
          await sleep(exponentialDelay(failures, REJOIN_BACKOFF), this.#ending.signal)
        await this.#probe()
        this.#isRejoining = false
        if (this.target) this.target.failures = 0
        this.#transition('ready', 'a probe passed')
        return
      } catch (error) {
        if (this.#ending.signal.aborted) return
        why = describeError(error)
      }
    }
    // Else it is on its way out already, and may end what it still serves.
    if (this.#state !== 'unready') return
    this.fail(
      'MANYHOST_INSTANCE_UNHEALTHY',
      `ejected, and ${MAX_REJOIN_PROBES} probes failed: ${why}`,
    )
  }

  async #probe(): Promise<void> {
    const { health, ready } = this.#settings
    const path = health?.path ?? ready
    const running = this.#running as Running
    const { signal } = this.#ending
    await probeConnection(running, PROBE_TIMEOUT, signal)
    if (path !== undefined) await httpProbe(running.dispatcher, path, PROBE_TIMEOUT, signal)
  }

  #onExit(exit: Exit): void {
    const reason = exit.detail || exit.reason
    if (this.#state === 'draining') {
      // Asked to end or not, what it still had is not served any more.
      void this.kill(reason)
    } else if (this.#state === 'starting') {
      const text = `it ended before it was ready: ${reason}`
      const error = this.#createError('MANYHOST_INSTANCE_ENDED', text)
      this.#failStart(error, undefined)
      this.#abortActivity(error)
    } else this.fail('MANYHOST_INSTANCE_ENDED', reason)
  }

  /** It has failed: what it serves is taken away, and what runs of it is stopped by force. */
  fail(code: 'MANYHOST_INSTANCE_ENDED' | 'MANYHOST_INSTANCE_UNHEALTHY', reason: string): void {
    const output = this.output.lastLines(20)
    const what = `${this.#settings.url}: ${this.id} failed: ${reason}`
    this.failure ??= new ManyhostError(code, output ? `${what}\n${output}` : what, {
      service: this.#settings.url,
      output: this.output.text(),
    })
    if (!this.#transition('failed', reason)) return
    this.#abortActivity(this.#createError(code, reason))
    void this.#stop(0)
  }

  /** Ends what it serves, as long as that may take, and then stops. See `gone`. */
  drain(reason: string): void {
    const from = this.#state
    if (from === 'pending') this.#stopPending(reason)
    else if (!this.#transition('draining', reason)) return
    else if (from === 'starting')
      this.#abortActivity(this.#createError('MANYHOST_INSTANCE_ENDED', reason))
    else if (this.inFlight === 0) void this.onDrained()
    else this.#startDrainTimer()
  }

  #startDrainTimer(): void {
    const { drainTimeout } = this.#settings
    this.#drainTimer = after(drainTimeout, () => {
      const text = `${this.id} was taken away after ${drainTimeout} ms (drainTimeout)`
      this.target?.interrupt(this.#createError('MANYHOST_INSTANCE_ENDED', text))
      // A tunnel gives its place back only when it has closed.
      void this.onDrained()
    })
  }

  /** The last request that it served while it drained has ended. */
  async onDrained(): Promise<void> {
    if (this.#state !== 'draining') return
    await this.#stop(this.#settings.stopGrace)
    this.#transition('stopped')
  }

  /** Stops it at once, by force; what it serves is taken away. See `gone`. */
  async kill(reason: string): Promise<void> {
    if (this.#state === 'pending') return this.#stopPending(reason)
    this.#transition('draining', reason)
    this.#abortActivity(this.#createError('MANYHOST_INSTANCE_ENDED', reason))
    await this.#stop(0)
    this.#transition('stopped')
  }

  #stopPending(reason: string): void {
    this.#transition('stopped', reason)
    this.#gone.resolve()
  }

  /** Nothing is begun any more, and what it serves is taken away. */
  #abortActivity(error: ManyhostError): void {
    this.#ending.abort(error)
    this.#clearTimers()
    this.target?.interrupt(error)
  }

  #clearTimers(): void {
    this.#healthChecks?.close()
    this.#rampTimer?.clear()
    this.#drainTimer?.clear()
  }

  /** May be called again, with a shorter grace. Never rejects. */
  async #stop(grace: number): Promise<void> {
    this.#clearTimers()
    try {
      const stopped = await resolveWithin(grace + STOP_TIMEOUT_EXTRA, this.#stopRunning(grace))
      if (!stopped) throw new Error(`its provider did not end it within ${STOP_TIMEOUT_EXTRA} ms`)
    } catch (error) {
      this.output.append(`\nmanyhost: stop failed: ${describeError(error)}\n`)
      this.#providerCalls.reportStopFailure(error)
    }
    this.#ending.abort(this.#createError('MANYHOST_INSTANCE_ENDED', `${this.id} was stopped`))
    this.#gone.resolve()
  }

  async #stopRunning(grace: number): Promise<true> {
    // A start that failed has left nothing; one that was given up may still come to run.
    const running = this.#running ?? (await this.#starting?.catch(() => undefined))
    await running?.stop(grace)
    return true
  }

  #createError(
    code: 'MANYHOST_INSTANCE_ENDED' | 'MANYHOST_INSTANCE_UNHEALTHY',
    text: string,
  ): ManyhostError {
    return new ManyhostError(code, text, { service: this.#settings.url })
  }
}

/** The name that a server of `https://name:port` must prove to have. */
function tlsServerName(address: string | undefined): string | undefined {
  const isTls = typeof address === 'string' && address.startsWith('https:')
  return isTls && URL.canParse(address) ? new URL(address).hostname : undefined
}

function isStartTimeout(error: Error): boolean {
  return error instanceof ManyhostError && error.code === 'MANYHOST_START_TIMEOUT'
}
