/**
 * Load balancers: `session.setSize(url, QueueLength)`, or with settings
 * `session.setSize(url, (cluster) => new QueueLength(cluster, { perInstance: 4 }))`. The rules are pure functions of the load,
 * the time, the last decision and the settings; the classes only read the cluster and the clock. All of them may be wrapped,
 * see `wrappers.ts`. All constructors throw MANYHOST_INVALID_OPTION for an unknown setting or one out of its range. Durations
 * are in milliseconds.
 */
import { now } from '../core/time.ts'
import { BALANCER_SETTINGS } from './balancer-settings.ts'
import { averageLoad, type LoadHistory, recordLoad } from './load-history.ts'
import { checkSettings, settingError } from './settings.ts'
import type { SizedCluster } from './sized-cluster.ts'
import {
  addPeak,
  highestPeak,
  type LastActivity,
  type SizePeaks,
  updateActivity,
} from './wrappers.ts'

export interface SimpleLoadBalancerSettings {
  /** Greatest number of instances. @default 5 */
  readonly max?: number
  /** Milliseconds for which the size stays as it is. It changes at the first read after that. @default 10_000 */
  readonly interval?: number
  /** Instances until the first `interval` has passed. @default 3, or `max` if that is less */
  readonly initial?: number
}

export interface SimpleLoadBalancerState {
  readonly size: number
  readonly queued: number
  readonly at: number
}

/** The rule of `SimpleLoadBalancer`. */
export function nextSimpleState(
  queued: number,
  at: number,
  last: SimpleLoadBalancerState | undefined,
  settings: Required<SimpleLoadBalancerSettings>,
): SimpleLoadBalancerState {
  if (!last) return { size: Math.min(settings.initial, settings.max), queued, at }
  if (at - last.at <= settings.interval) return last
  if (queued === 0 && last.queued === 0) return { size: 1, queued, at }
  const size = queued > last.queued ? Math.min(last.size + 1, settings.max) : last.size
  return { size, queued, at }
}

/**
 * One instance more each `interval` in which the queue grew, up to `max`; one instance when the queue was empty twice
 * in a row. A simple example of a balancer, after ya-httpx-client's `SimpleLoadBalancer`.
 */
export class SimpleLoadBalancer {
  readonly #cluster: SizedCluster
  readonly #settings: Required<SimpleLoadBalancerSettings>
  #last: SimpleLoadBalancerState | undefined

  constructor(cluster: SizedCluster, settings: SimpleLoadBalancerSettings = {}) {
    this.#cluster = cluster
    this.#settings = checkSettings('SimpleLoadBalancer', settings, BALANCER_SETTINGS.simple())
  }

  valueOf(): number {
    this.#last = nextSimpleState(this.#cluster.requestQueue.size, now(), this.#last, this.#settings)
    return this.#last.size
  }
}

export interface QueueLengthSettings {
  /** Requests, waiting and in flight, for each instance. From 0.01 up. @default the service's `concurrency` */
  readonly perInstance?: number
  /**
   * Milliseconds without a larger wanted size after which the size falls. With 0 an instance stops as soon as no request needs
   * it; set more if a start takes long. @default 0
   */
  readonly scaleDownDelay?: number
}

/** As many instances as the requests that wait or are in flight need; 0 if there are none. */
export class QueueLength {
  readonly #cluster: SizedCluster
  readonly #settings: Required<QueueLengthSettings>
  #peaks: SizePeaks = []

  constructor(cluster: SizedCluster, settings: QueueLengthSettings = {}) {
    this.#cluster = cluster
    this.#settings = checkSettings(
      'QueueLength',
      settings,
      BALANCER_SETTINGS['queue-length'](cluster),
    )
  }

  valueOf(): number {
    const { perInstance, scaleDownDelay } = this.#settings
    const size = instancesFor(currentLoad(this.#cluster), perInstance)
    this.#peaks = addPeak(this.#peaks, { at: now(), size }, scaleDownDelay)
    return highestPeak(this.#peaks)
  }
}

export interface TargetInFlightSettings {
  /** Average number of requests per instance that is aimed at. From 0.01 up. @default 0.7 of the `concurrency` */
  readonly target?: number
  /** Time over which the load is averaged. From 1000 up. @default 60_000 */
  readonly stableWindow?: number
  /** Time over which it is averaged to find a burst. From a hundredth of `stableWindow` up to it. @default 6_000 */
  readonly panicWindow?: number
  /** How many times the ready instances a burst must want to start a panic. From 1 up. @default 2 */
  readonly panicThreshold?: number
  /** Greatest factor by which the size may exceed the ready instances. From 1.01 up. @default 1000 */
  readonly maxScaleUpRate?: number
  /** Greatest factor by which the ready instances may exceed the size. From 1.01 up. @default 2 */
  readonly maxScaleDownRate?: number
  /** As for `QueueLength`. @default 0 */
  readonly scaleDownDelay?: number
}

export interface TargetInFlightState {
  readonly size: number
  readonly history: LoadHistory
  readonly peaks: SizePeaks
  /** Only in a panic: the time of the last burst, and the largest size since the panic began. */
  readonly panic?: { readonly at: number; readonly size: number } | undefined
}

/**
 * The rule of `TargetInFlight`. The idea and the defaults are those of the Knative Serving autoscaler (KPA),
 * pkg/autoscaler/scaling. Two differences: from size 0 the first requests are the whole load, whatever the average
 * of the idle time before; and the average is over exact time, not over a bucket a second.
 */
export function nextTargetState(
  cluster: { readonly load: number; readonly ready: number },
  at: number,
  last: TargetInFlightState | undefined,
  settings: Required<TargetInFlightSettings>,
): TargetInFlightState {
  const { target, stableWindow, panicWindow } = settings
  const awakes = last?.size === 0 && cluster.load > 0
  const keep = { keep: stableWindow, grain: panicWindow / 30 }
  const history = recordLoad(awakes ? undefined : last?.history, { at, load: cluster.load }, keep)
  const ready = Math.max(1, cluster.ready)
  const min = Math.floor(ready / settings.maxScaleDownRate)
  const max = Math.ceil(ready * settings.maxScaleUpRate)
  const clamp = (wanted: number): number => Math.min(max, Math.max(min, wanted))

  const burst = instancesFor(averageLoad(history, panicWindow), target)
  const stable = clamp(instancesFor(averageLoad(history, stableWindow), target))
  const panic = nextPanic(
    burst >= settings.panicThreshold * ready,
    at,
    cluster.ready,
    last,
    settings,
  )
  const size = panic ? Math.max(panic.size, stable, clamp(burst)) : stable
  const peaks = addPeak(last?.peaks ?? [], { at, size }, settings.scaleDownDelay)
  return {
    size: highestPeak(peaks),
    history: history,
    peaks,
    panic: panic && { at: panic.at, size },
  }
}

/** A panic begins with a burst and ends after a stable window without a burst. */
function nextPanic(
  burst: boolean,
  at: number,
  ready: number,
  last: TargetInFlightState | undefined,
  { stableWindow }: { stableWindow: number },
): TargetInFlightState['panic'] {
  // A balancer that takes over running instances has no history yet, and keeps the instances until it has.
  if (!last) return burst || ready > 1 ? { at, size: ready } : undefined
  if (burst) return { at, size: last.panic?.size ?? last.size }
  return last.panic && at - last.panic.at < stableWindow ? last.panic : undefined
}

/**
 * Holds the average number of requests per instance, waiting and in flight, at `target`. The average over a minute makes the
 * size calm. A burst that needs twice the ready instances within seconds starts a panic, in which the size grows at once and
 * does not shrink.
 */
export class TargetInFlight {
  readonly #cluster: SizedCluster
  readonly #settings: Required<TargetInFlightSettings>
  #last: TargetInFlightState | undefined

  constructor(cluster: SizedCluster, settings: TargetInFlightSettings = {}) {
    this.#cluster = cluster
    const known = checkSettings(
      'TargetInFlight',
      settings,
      BALANCER_SETTINGS['target-in-flight'](cluster),
    )
    const part = known.panicWindow / known.stableWindow
    if (part < 0.01 || part > 1) {
      throw settingError(
        'TargetInFlight: panicWindow must be from a hundredth of stableWindow up to it',
      )
    }
    this.#settings = known
  }

  valueOf(): number {
    const ready = this.#cluster.instances.filter(({ state }) => state === 'ready').length
    const look = { load: currentLoad(this.#cluster), ready }
    this.#last = nextTargetState(look, now(), this.#last, this.#settings)
    return this.#last.size
  }
}

export interface IdleToZeroSettings {
  /** Instances while there is work. From 1 up. @default the cluster's size when this is made, or 1 if that is 0 */
  readonly active?: number
  /** Time without work after which the size is 0. @default 60_000 */
  readonly idleAfter?: number
}

/** `active` instances while there is work and for `idleAfter` after it, else none; back at once when a request comes. */
export class IdleToZero {
  readonly #cluster: SizedCluster
  readonly #settings: Required<IdleToZeroSettings>
  #work: LastActivity

  constructor(cluster: SizedCluster, settings: IdleToZeroSettings = {}) {
    this.#cluster = cluster
    this.#settings = checkSettings(
      'IdleToZero',
      settings,
      BALANCER_SETTINGS['idle-to-zero'](cluster),
    )
    this.#work = updateActivity(cluster, now(), undefined)
  }

  valueOf(): number {
    const at = now()
    this.#work = updateActivity(this.#cluster, at, this.#work)
    return at - this.#work.at >= this.#settings.idleAfter ? 0 : this.#settings.active
  }
}

function currentLoad(cluster: SizedCluster): number {
  return cluster.requestQueue.size + cluster.inFlight
}

/** Rounded up, but for the error of floating-point numbers: 21 requests at a target of 0.7 * 3 are 10 instances. */
export function instancesFor(load: number, perInstance: number): number {
  return Math.max(0, Math.ceil(load / perInstance - 1e-6))
}
