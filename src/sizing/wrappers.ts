/**
 * Wrappers: each takes any size (an integer, a function, a class, an object) and gives one back that behaves a little
 * better: `bounds(scaleDownDelay(QueueLength, 30_000), { min: 1, max: 8 })`. What a wrapper remembers it remembers for
 * each cluster by itself, so one wrapped size may be given to many services.
 */
import { now } from '../core/time.ts'
import { IDLE_AFTER_SETTING } from './balancer-settings.ts'
import { checkSetting, checkSettings, settingError } from './settings.ts'
import { createSizeFactory, type Size, type SizeSpec, wholeSize } from './size.ts'
import type { SizedCluster } from './sized-cluster.ts'

/** What a wrapper gives: a function of the cluster, asynchronous only where the size inside is. */
export type WrappedSize = (cluster: SizedCluster) => number | Promise<number>

/**
 * Holds a size between `min` (default 0) and `max` (default `Infinity`), both whole.
 * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_INVALID_SIZE
 */
export function bounds(size: SizeSpec, settings: { min?: number; max?: number }): WrappedSize {
  const { min, max } = checkSettings('bounds', settings, {
    min: { default: 0, min: 0, max: Number.MAX_SAFE_INTEGER, whole: true },
    max: { default: Infinity, min: 0, whole: true },
  })
  if (min > max)
    throw settingError(`bounds: min must not be above max, got min ${min} and max ${max}`)
  return wrapSize(size, (wanted) => ({ size: Math.min(max, Math.max(min, wanted)) }))
}

/**
 * Lets a size fall only when nothing larger was read for `ms` milliseconds: the largest of the window. Growth passes
 * at once. After Knative Serving, `scale-down-delay`.
 * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_INVALID_SIZE
 */
export function scaleDownDelay(size: SizeSpec, ms: number): WrappedSize {
  const window = checkSetting('scaleDownDelay: ms', ms, { default: Number.NaN, min: 0 })
  return wrapSize<{ size: number; peaks: SizePeaks }>(size, (wanted, at, _, last) => {
    const peaks = addPeak(last?.peaks ?? [], { at, size: wanted }, window)
    return { size: highestPeak(peaks), peaks }
  })
}

/**
 * Lets a size change by at most `up` and `down` instances a read (default `Infinity`, from 1 up, whole), beginning at
 * the cluster's size. Reads come each tick (1 s) and soon after the queue changes.
 * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_INVALID_SIZE
 */
export function step(size: SizeSpec, settings: { up?: number; down?: number }): WrappedSize {
  const one = { default: Infinity, min: 1, whole: true }
  const { up, down } = checkSettings('step', settings, { up: one, down: one })
  return wrapSize<{ size: number }>(size, (wanted, _, cluster, last) => {
    const from = last?.size ?? cluster.size
    return { size: Math.min(from + up, Math.max(from - down, wanted)) }
  })
}

/**
 * Size 0 when there was no work for `idleAfter` milliseconds (default 60 000); until then, and at once when a request
 * comes, the size inside, and at least 1.
 * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_INVALID_SIZE
 */
export function idleToZero(size: SizeSpec, settings: { idleAfter?: number } = {}): WrappedSize {
  const { idleAfter } = checkSettings('idleToZero', settings, { idleAfter: IDLE_AFTER_SETTING })
  return wrapSize<{ size: number; work: LastActivity }>(size, (wanted, at, cluster, last) => {
    const work = updateActivity(cluster, at, last?.work)
    return { size: at - work.at >= idleAfter ? 0 : Math.max(1, wanted), work }
  })
}

/** Sizes that were read in a window, without those that a later one equals or tops: they fall from first to last. */
export type SizePeaks = readonly { readonly at: number; readonly size: number }[]

/** Adds what was read now and forgets what is `window` ms old. */
export function addPeak(peaks: SizePeaks, read: SizePeaks[number], window: number): SizePeaks {
  const kept = peaks.filter((peak) => peak.at > read.at - window && peak.size > read.size)
  return [...kept, read]
}

/** The largest size of the window; 0 of none. */
export function highestPeak(peaks: SizePeaks): number {
  return peaks[0]?.size ?? 0
}

/** When there was work last, as far as the reads saw. */
export interface LastActivity {
  readonly at: number
  readonly arrivals: number
}

/**
 * LastActivity is a request that waits or is in flight, or that came and went since the read before: a service of short
 * requests would look idle otherwise. The first read counts as work, so that a new cluster is not idle from the start.
 */
export function updateActivity(
  cluster: Pick<SizedCluster, 'requestQueue' | 'inFlight' | 'stats'>,
  at: number,
  last: LastActivity | undefined,
): LastActivity {
  const { arrivals } = cluster.stats()
  const busy = cluster.requestQueue.size + cluster.inFlight > 0
  return { at: !last || busy || arrivals !== last.arrivals ? at : last.at, arrivals }
}

type NextState<State> = (
  wanted: number,
  at: number,
  cluster: SizedCluster,
  last: State | undefined,
) => State

function wrapSize<State extends { readonly size: number }>(
  inner: SizeSpec,
  next: NextState<State>,
): WrappedSize {
  const make = createSizeFactory(inner)
  const owned = new WeakMap<SizedCluster, { readonly size: Size; state: State | undefined }>()
  return (cluster) => {
    const own = owned.get(cluster) ?? { size: make(cluster), state: undefined }
    owned.set(cluster, own)
    const take = (read: number): number => {
      own.state = next(wholeSize(read), now(), cluster, own.state)
      return own.state.size
    }
    const read = own.size.read()
    return typeof read === 'number' ? take(read) : read.then(take)
  }
}
