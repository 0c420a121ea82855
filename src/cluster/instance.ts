/**
 * One instance, from its creation to its end. It is the only writer of its state, follows the table in `lifecycle.ts`, and
 * reports each transition once. The cluster decides what an instance is for; here it starts, is watched, and stops.
 *
 * The state after a call or an event, by the state before; `-` for no change. `failed` and `stopped` are final.
 *
 * | call or event           | pending  | starting            | ready               | unready             | draining            |
 * | ----------------------- | -------- | ------------------- | ------------------- | ------------------- | ------------------- |
 * | start()                 | starting | -                   | -                   | -                   | -                   |
 * | start succeeds          |          | ready               |                     |                     | -                   |
 * | start fails, or is late |          | failed              |                     |                     | stopped             |
 * | its process ends        |          | failed              | failed              | failed              | stopped             |
 * | checkConnection() fails | -        | -                   | unready             | -                   | -                   |
 * | eject()                 | -        | -                   | unready, or failed  | -                   | -                   |
 * | probes pass             |          |                     |                     | ready               | -                   |
 * | probes fail             |          |                     |                     | failed              | -                   |
 * | health checks fail      |          |                     | unready             | failed              | failed              |
 * | a health check passes   |          |                     | -                   | ready               | -                   |
 * | fail()                  | failed   | failed              | failed              | failed              | failed              |
 * | drain()                 | stopped  | draining, stopped   | draining, stopped   | draining, stopped   | -                   |
 * | onDrained()             | -        | -                   | -                   | -                   | stopped             |
 * | kill()                  | stopped  | draining, stopped   | draining, stopped   | draining, stopped   | stopped             |
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
import { EjectionCounter } from './ejection-counter.ts'
import {
  type InstanceErrorCode,
  type InstanceErrorContext,
  instanceFailedError,
  startFailedError,
} from './instance-errors.ts'
import { canTransition } from './lifecycle.ts'
import {
  type HealthChecks,
  httpProbe,
  probeConnection,
  probeInstance,
  startHealthChecks,
  waitUntilInstanceReady,
} from './probe.ts'
import { type ProviderCalls, tlsServerName } from './provider-calls.ts'
import type { ClusterSettings } from './settings.ts'

/** What an instance reports to its cluster. */
export interface InstanceEvents {
  onState(from: InstanceState, reason: string): void
  /** The number of its free slots may have changed. */
  onSlots(): void
}

/** Characters of its output that an instance keeps. */
const MAX_OUTPUT_LENGTH = 65_536
/** Probes after an ejection, and ejections in a row without a served request between them, before an instance fails. */
const MAX_REJOIN_PROBES = 6
/** Milliseconds between two such probes. */
const REJOIN_BACKOFF = { min: 10, max: 2_000 }
/** Milliseconds that the response to such a probe may take. */
const PROBE_TIMEOUT = 1_000
/** Milliseconds that a provider may take for a stop beyond its grace. After that nothing waits for it any more. */
const STOP_TIMEOUT_EXTRA = 10_000
/** Milliseconds after which a ready instance counts as started well, even if it has served nothing. */
const MIN_LIFETIME = 1_000

export class Instance {
  readonly id: string
  /** Milliseconds since 1970. */
  readonly startedAt = wallClock()
  readonly provider: string
  readonly output = new OutputTail(MAX_OUTPUT_LENGTH)
  #state: InstanceState = 'pending'
  target: Target | undefined
  /** When it became ready, on the clock of `now()`; 0 before that. @internal */
  readyAt = 0
  /** Milliseconds from the call of `start` until it was ready. @internal */
  startDuration = 0
  /** Why it failed. */
  failure: ManyhostError | undefined
  readonly #settings: ClusterSettings
  readonly #providerCalls: ProviderCalls
  readonly #events: InstanceEvents
  readonly #ending = new AbortController()
  readonly #gone: Deferred<void> = deferred()
  /** The answer of the provider. An instance may begin to run after its start was given up. */
  #starting: Promise<Running> | undefined
  #running: Running | undefined
  #healthChecks: HealthChecks | undefined
  #rampTimer: Timer | undefined
  #drainTimer: Timer | undefined
  readonly #ejections = new EjectionCounter()
  /** While this is true, probes decide whether it is ready, and the health checks do not. */
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

  /** Resolves when the instance has ended and nothing of it is left. @internal */
  get gone(): Promise<void> {
    return this.#gone.promise
  }

  /** Requests that the instance serves now. */
  get inFlight(): number {
    return this.target?.inFlight ?? 0
  }

  /** Whether its start was a success: it has served a request, or has been ready for a while. */
  get isProven(): boolean {
    if (!this.target) return false
    return this.target.served > 0 || now() - this.readyAt >= MIN_LIFETIME
  }

  /** Where the instance listens, if its provider says so. */
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

  /** Starts the instance. Resolves when it is ready or has ended; never rejects. */
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
      // The start may have been given up in the same turn in which the instance became ready.
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
    // In a later turn, so that `#starting` is set before the provider is called: the provider may end this instance.
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
    this.failure = startFailedError(this.#errorContext, thrown, lastTry)
    this.#transition('failed', describeError(asError(thrown)))
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
   * Checks an instance to which a connection broke. Until the check has passed it gets no request. Otherwise a request that
   * is sent again would get the slot that has just become free, on the instance that has just died.
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
    // Its state may have changed during the check.
    if (this.state !== 'ready') return
    target.open = true
    this.#events.onSlots()
  }

  /** Takes an instance whose requests failed out of use until a probe passes. Requests that it serves go on. */
  eject(cause: Error): void {
    const why = `ejected: ${describeError(cause)}`
    const served = this.target?.served ?? 0
    if (!this.#transition('unready', why)) return
    const inARow = this.#ejections.record(served)
    if (inARow <= MAX_REJOIN_PROBES) void this.#rejoin()
    else this.fail('MANYHOST_INSTANCE_UNHEALTHY', `${why}, ${inARow} times in a row`)
  }

  async #rejoin(): Promise<void> {
    this.#isRejoining = true
    const { health, ready } = this.#settings
    const path = health?.path ?? ready
    let why = ''
    for (let tries = 0; tries < MAX_REJOIN_PROBES && this.#state === 'unready'; tries++) {
      // The first probe is sent at once. Each further probe, and each further ejection in a row, waits longer.
      const failures = tries + this.#ejections.inARow - 1
      try {
        if (failures > 0)
          await sleep(exponentialDelay(failures, REJOIN_BACKOFF), this.#ending.signal)
        await probeInstance(this.#running as Running, path, PROBE_TIMEOUT, this.#ending.signal)
        this.#isRejoining = false
        if (this.target) this.target.failures = 0
        this.#transition('ready', 'a probe passed')
        return
      } catch (error) {
        if (this.#ending.signal.aborted) return
        why = describeError(error)
      }
    }
    // In another state it is about to end already, and may finish the requests that it serves.
    if (this.#state !== 'unready') return
    this.fail(
      'MANYHOST_INSTANCE_UNHEALTHY',
      `ejected, and ${MAX_REJOIN_PROBES} probes failed: ${why}`,
    )
  }

  #onExit(exit: Exit): void {
    const reason = exit.detail || exit.reason
    if (this.#state === 'draining') {
      // The requests that it still had are not served any more.
      void this.kill(reason)
    } else if (this.#state === 'starting') {
      const text = `it ended before it was ready: ${reason}`
      const error = this.#createError('MANYHOST_INSTANCE_ENDED', text)
      this.#failStart(error, undefined)
      this.#abortActivity(error)
    } else this.fail('MANYHOST_INSTANCE_ENDED', reason)
  }

  /** Makes the instance failed: its requests are taken away from it, and it is stopped by force. */
  fail(code: InstanceErrorCode, reason: string): void {
    this.failure ??= instanceFailedError(this.#errorContext, code, reason)
    if (!this.#transition('failed', reason)) return
    this.#abortActivity(this.#createError(code, reason))
    void this.#stop(0)
  }

  /** Lets the instance finish its requests, for `drainTimeout` at most, and then stops it. See `gone`. */
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
      // A tunnel gives its slot back only when it has closed, so nothing else may call this.
      void this.onDrained()
    })
  }

  /** Called when the last request of a draining instance has ended. */
  async onDrained(): Promise<void> {
    if (this.#state !== 'draining') return
    await this.#stop(this.#settings.stopGrace)
    this.#transition('stopped')
  }

  /** Stops the instance at once, by force; its requests are taken away from it. See `gone`. */
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

  /** Ends its start, its checks and its timers, and takes its requests away. */
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
    // A start that failed has left nothing behind. A start that was given up may still succeed.
    const running = this.#running ?? (await this.#starting?.catch(() => undefined))
    await running?.stop(grace)
    return true
  }

  get #errorContext(): InstanceErrorContext {
    return { id: this.id, service: this.#settings.url, output: this.output }
  }

  #createError(code: InstanceErrorCode, text: string): ManyhostError {
    return new ManyhostError(code, text, { service: this.#settings.url })
  }
}
