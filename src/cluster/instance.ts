/**
 * One instance from its making to its end. It is the only writer of its state, keeps to the table in `lifecycle.ts`
 * and says each transition once. What it is for is decided in `cluster.ts`; here it starts, is watched, and stops.
 */

import { asError, describe, ManyhostError } from '../core/errors.ts'
import type { InstanceState } from '../core/events.ts'
import type { Exit, Running } from '../core/provider.ts'
import { exitOf } from '../core/running.ts'
import { after, every, now, sleep, type Timer, wallClock, within } from '../core/time.ts'
import { Target } from '../dispatch/target.ts'
import { mayBecome } from './lifecycle.ts'
import { type Checks, checks, httpProbe, knock, untilReady } from './probe.ts'
import type { ProviderCalls } from './provider-calls.ts'
import type { ClusterSettings } from './settings.ts'
import { Tail } from './tail.ts'

/** What an instance tells its cluster. */
export interface InstanceEvents {
  onState(from: InstanceState, reason: string): void
  /** It has more places than before. */
  onPlaces(): void
}

/** Probes after an ejection, and ejections in a row with nothing served between, before an instance is given up. */
const REJOIN_TRIES = 6
/** How long the answer to such a probe may take, in ms. */
const PROBE_TIMEOUT = 1_000
/** How much longer than its grace a provider may take for a stop before nobody waits for it any more, in ms. */
const STOP_PATIENCE = 10_000
/** One that lived for so long after it became ready has not failed to start, even if it served nothing, in ms. */
const STILLBORN = 1_000

export class Instance {
  readonly id: string
  /** Milliseconds since 1970. */
  readonly startedAt = wallClock()
  readonly provider: string
  readonly output = new Tail()
  /** Resolves when it has ended and nothing of it is left. */
  readonly gone: Promise<void>
  #state: InstanceState = 'pending'
  target: Target | undefined
  /** When it became ready, on the clock of `now()`. */
  readyAt = 0
  /** Milliseconds from the start of its start to ready. */
  startDuration = 0
  /** Why it ended. */
  failure: ManyhostError | undefined
  readonly #settings: ClusterSettings
  readonly #calls: ProviderCalls
  readonly #events: InstanceEvents
  readonly #ending = new AbortController()
  #setGone!: () => void
  /** What the provider answers with: it may come to run after its start was given up. */
  #starting: Promise<Running> | undefined
  #running: Running | undefined
  #checks: Checks | undefined
  #ramp: Timer | undefined
  #drainTimer: Timer | undefined
  /** Ejections in a row. */
  #ejections = 0
  /** What it had served when it was ejected last. */
  #servedBefore = 0
  /** Probes decide whether it is ready, not its health check. */
  #rejoining = false

  constructor(id: string, settings: ClusterSettings, calls: ProviderCalls, events: InstanceEvents) {
    this.id = id
    this.#calls = calls
    this.provider = settings.provider.name
    this.#settings = settings
    this.#events = events
    this.gone = new Promise((resolve) => {
      this.#setGone = resolve
    })
  }

  get state(): InstanceState {
    return this.#state
  }

  /** Requests that it serves now. */
  get inFlight(): number {
    return this.target?.inFlight ?? 0
  }

  /** Whether it came up in earnest: it has served something, or lived for a while. */
  get isProven(): boolean {
    if (!this.target) return false
    return this.target.served > 0 || now() - this.readyAt >= STILLBORN
  }

  /** Where it listens. */
  get address(): string | undefined {
    return this.#running?.address
  }

  #become(state: InstanceState, reason = ''): boolean {
    const from = this.#state
    if (!mayBecome(from, state)) return false
    this.#state = state
    if (this.target) this.target.open = state === 'ready'
    this.#events.onState(from, reason)
    return true
  }

  /** Starts it, and resolves when it is ready or has ended. Never rejects. */
  async start(): Promise<void> {
    const begun = now()
    if (!this.#become('starting')) return
    const { signal } = this.#ending
    const { ready } = this.#settings
    const limit = this.#limitStart()
    let lastTry: unknown
    try {
      this.#starting = this.#ask(signal)
      this.#running = await orAborted(this.#starting, signal)
      void exitOf(this.#running).then((exit) => this.#onExit(exit))
      void this.#calls.leavingOf(this.#running, (reason) => this.drain(reason))
      await untilReady(this.#running, { path: ready, signal }, (error) => {
        lastTry = error
      })
      // It may have been given up in the same turn in which it became ready.
      signal.throwIfAborted()
      this.startDuration = now() - begun
      this.#onReady(this.#running)
    } catch (error) {
      if (this.#state === 'starting') this.#failStart(error, lastTry)
      await this.#stop(0)
      this.#become('stopped')
    } finally {
      limit.clear()
    }
  }

  async #ask(signal: AbortSignal): Promise<Running> {
    // Not at once: what the provider does meanwhile may end this instance, and what comes of the start is known then.
    await undefined
    signal.throwIfAborted()
    const onOutput = (chunk: string): void => this.output.append(String(chunk))
    return this.#calls.start({ ...this.#settings.spec, id: this.id, onOutput }, signal)
  }

  #limitStart(): Timer {
    const { startTimeout, url } = this.#settings
    return after(startTimeout, () => {
      const text = `${url}: ${this.id} was not ready within ${startTimeout} ms (startTimeout)`
      this.#ending.abort(new ManyhostError('MANYHOST_START_TIMEOUT', text, { service: url }))
    })
  }

  #failStart(thrown: unknown, lastTry: unknown): void {
    const { url } = this.#settings
    const error = asError(thrown)
    const tried = lastTry && isTimeout(error) ? `; last try: ${describe(lastTry)}` : ''
    const output = this.output.lines(20)
    const code = isTimeout(error) ? 'MANYHOST_START_TIMEOUT' : 'MANYHOST_START_FAILED'
    const what = `${url}: ${this.id} could not be started: ${describe(error)}${tried}`
    this.failure = new ManyhostError(code, output ? `${what}\n${output}` : what, {
      cause: error,
      service: url,
      output: this.output.text(),
    })
    this.#become('failed', describe(error))
  }

  #onReady(running: Running): void {
    const { slowStart, health } = this.#settings
    const concurrency = this.#calls.placesOf(running, this.#settings.concurrency)
    this.readyAt = now()
    const ramps = slowStart > 0 && Number.isFinite(concurrency)
    const places = ramps ? 1 : concurrency
    this.target = new Target(this.id, running.dispatcher, places, hostOf(running.address))
    if (!this.#become('ready')) return
    if (places < concurrency) this.#rampUp(this.target, concurrency)
    if (health) {
      const check = (): Promise<void> =>
        httpProbe(running.dispatcher, health.path, health.interval, this.#ending.signal)
      this.#checks = checks(health.interval, check, (failures, why) =>
        this.#onHealth(failures, health.threshold, why),
      )
    }
  }

  #rampUp(target: Target, most: number): void {
    this.#ramp = every(this.#settings.slowStart / (most - 1), () => {
      target.places++
      if (target.places >= most) this.#ramp?.clear()
      this.#events.onPlaces()
    })
  }

  #onHealth(failures: number, threshold: number, why: string): void {
    const reason = `health check failed ${failures} times in a row: ${why}`
    if (failures === 0) {
      if (!this.#rejoining) this.#become('ready', 'its health check passed')
    } else if (failures === threshold) {
      this.#become('unready', reason)
      this.target?.interrupt(this.#error('MANYHOST_INSTANCE_UNHEALTHY', reason))
    } else if (failures >= 2 * threshold) {
      this.fail('MANYHOST_INSTANCE_UNHEALTHY', reason)
    }
  }

  /**
   * A connection to it broke. Until one knock has shown that it is still there it gets no request: those that are sent
   * again would else be given to the place that has just become free, on the instance that has just died.
   */
  async confirm(cause: Error): Promise<void> {
    const { target } = this
    const running = this.#running
    if (this.#state !== 'ready' || !target?.open || !running?.accepts) return
    target.open = false
    this.#events.onPlaces()
    try {
      await knock(running, PROBE_TIMEOUT, this.#ending.signal)
    } catch {
      this.eject(cause)
      return
    }
    // Meanwhile it may have become unready, or have been asked to end.
    if (this.state !== 'ready') return
    target.open = true
    this.#events.onPlaces()
  }

  /** Requests on it failed: it gets no more until a probe passes. What it serves, it may end. */
  eject(cause: Error): void {
    const why = `ejected: ${describe(cause)}`
    const served = this.target?.served ?? 0
    if (!this.#become('unready', why)) return
    // They count in a row only while nothing is served between them.
    this.#ejections = served > this.#servedBefore ? 1 : this.#ejections + 1
    this.#servedBefore = served
    if (this.#ejections <= REJOIN_TRIES) void this.#rejoin()
    else this.fail('MANYHOST_INSTANCE_UNHEALTHY', `${why}, ${this.#ejections} times in a row`)
  }

  async #rejoin(): Promise<void> {
    this.#rejoining = true
    let why = ''
    for (let tries = 0; tries < REJOIN_TRIES && this.#state === 'unready'; tries++) {
      // The first probe goes at once; each further one, and each further ejection in a row, waits longer.
      const wait = 10 * 2 ** (tries + this.#ejections - 1) - 10
      try {
        if (wait > 0) await sleep(Math.min(wait, 2_000), this.#ending.signal)
        await this.#probe()
        this.#rejoining = false
        if (this.target) this.target.failures = 0
        this.#become('ready', 'a probe passed')
        return
      } catch (error) {
        if (this.#ending.signal.aborted) return
        why = describe(error)
      }
    }
    // Else it is on its way out already, and may end what it still serves.
    if (this.#state !== 'unready') return
    this.fail('MANYHOST_INSTANCE_UNHEALTHY', `ejected, and ${REJOIN_TRIES} probes failed: ${why}`)
  }

  async #probe(): Promise<void> {
    const { health, ready } = this.#settings
    const path = health?.path ?? ready
    const running = this.#running as Running
    const { signal } = this.#ending
    await knock(running, PROBE_TIMEOUT, signal)
    if (path !== undefined) await httpProbe(running.dispatcher, path, PROBE_TIMEOUT, signal)
  }

  #onExit(exit: Exit): void {
    const reason = exit.detail || exit.reason
    if (this.#state === 'draining') {
      // Asked to end or not, what it still had is not served any more.
      void this.kill(reason)
    } else if (this.#state === 'starting') {
      const text = `it ended before it was ready: ${reason}`
      const error = this.#error('MANYHOST_INSTANCE_ENDED', text)
      this.#failStart(error, undefined)
      this.#end(error)
    } else this.fail('MANYHOST_INSTANCE_ENDED', reason)
  }

  /** It has failed: what it serves is taken away, and what runs of it is stopped by force. */
  fail(code: 'MANYHOST_INSTANCE_ENDED' | 'MANYHOST_INSTANCE_UNHEALTHY', reason: string): void {
    const output = this.output.lines(20)
    const what = `${this.#settings.url}: ${this.id} failed: ${reason}`
    this.failure ??= new ManyhostError(code, output ? `${what}\n${output}` : what, {
      service: this.#settings.url,
      output: this.output.text(),
    })
    if (!this.#become('failed', reason)) return
    this.#end(this.#error(code, reason))
    void this.#stop(0)
  }

  /** Ends what it serves, as long as that may take, and then stops. See `gone`. */
  drain(reason: string): void {
    const from = this.#state
    if (from === 'pending') this.#neverStarted(reason)
    else if (!this.#become('draining', reason)) return
    else if (from === 'starting') this.#end(this.#error('MANYHOST_INSTANCE_ENDED', reason))
    else if (this.inFlight === 0) void this.drained()
    else this.#limitDrain()
  }

  #limitDrain(): void {
    const { drainTimeout } = this.#settings
    this.#drainTimer = after(drainTimeout, () => {
      const text = `${this.id} was taken away after ${drainTimeout} ms (drainTimeout)`
      this.target?.interrupt(this.#error('MANYHOST_INSTANCE_ENDED', text))
      // A tunnel gives its place back only when it has closed.
      void this.drained()
    })
  }

  /** The last request that it served while it drained has ended. */
  async drained(): Promise<void> {
    if (this.#state !== 'draining') return
    await this.#stop(this.#settings.stopGrace)
    this.#become('stopped')
  }

  /** Stops it at once, by force; what it serves is taken away. See `gone`. */
  async kill(reason: string): Promise<void> {
    if (this.#state === 'pending') return this.#neverStarted(reason)
    this.#become('draining', reason)
    this.#end(this.#error('MANYHOST_INSTANCE_ENDED', reason))
    await this.#stop(0)
    this.#become('stopped')
  }

  #neverStarted(reason: string): void {
    this.#become('stopped', reason)
    this.#setGone()
  }

  /** Nothing is begun any more, and what it serves is taken away. */
  #end(error: ManyhostError): void {
    this.#ending.abort(error)
    this.#quiet()
    this.target?.interrupt(error)
  }

  #quiet(): void {
    this.#checks?.close()
    this.#ramp?.clear()
    this.#drainTimer?.clear()
  }

  /** May be called again, with a shorter grace. Never rejects. */
  async #stop(grace: number): Promise<void> {
    this.#quiet()
    try {
      const stopped = await within(grace + STOP_PATIENCE, this.#askToStop(grace))
      if (!stopped) throw new Error(`its provider did not end it within ${STOP_PATIENCE} ms`)
    } catch (error) {
      this.output.append(`\nmanyhost: stop failed: ${describe(error)}\n`)
      this.#calls.stopFailed(error)
    }
    this.#ending.abort(this.#error('MANYHOST_INSTANCE_ENDED', `${this.id} was stopped`))
    this.#setGone()
  }

  async #askToStop(grace: number): Promise<true> {
    // A start that failed has left nothing; one that was given up may still come to run.
    const running = this.#running ?? (await this.#starting?.catch(() => undefined))
    await running?.stop(grace)
    return true
  }

  #error(
    code: 'MANYHOST_INSTANCE_ENDED' | 'MANYHOST_INSTANCE_UNHEALTHY',
    text: string,
  ): ManyhostError {
    return new ManyhostError(code, text, { service: this.#settings.url })
  }
}

/** Rejects as soon as the signal is aborted, whatever becomes of the start. */
function orAborted(starting: Promise<Running>, signal: AbortSignal): Promise<Running> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason)
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    const settled = (): void => signal.removeEventListener('abort', onAbort)
    void starting.then(resolve, reject).finally(settled)
  })
}

/** The name that a server of `https://name:port` must prove to have. */
function hostOf(address: string | undefined): string | undefined {
  const isTls = typeof address === 'string' && address.startsWith('https:')
  return isTls && URL.canParse(address) ? new URL(address).hostname : undefined
}

function isTimeout(error: Error): boolean {
  return error instanceof ManyhostError && error.code === 'MANYHOST_START_TIMEOUT'
}
