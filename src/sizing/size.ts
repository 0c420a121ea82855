/**
 * A size is an integer, a function of the cluster, a class, or an object that is read as a number. The reader reads it again and
 * again; two reads never overlap, and a read that fails or hangs stops nothing.
 */
import { types } from 'node:util'
import { describe } from '../core/describe.ts'
import { describeError, ManyhostError } from '../core/errors.ts'
import { now } from '../core/time.ts'
import {
  type Coercible,
  coerceToNumber,
  isClass,
  isCoercible,
  isThenable,
  type ReadableNumber,
  toFiniteNumber,
} from './coerce.ts'
import type { SizedCluster } from './sized-cluster.ts'

export type { Coercible } from './coerce.ts'
export type { ClusterStats, SizedCluster, SizedInstance } from './sized-cluster.ts'

export type SizeFunction<C extends SizedCluster = SizedCluster> = (
  cluster: C,
) => ReadableNumber | Coercible | Promise<Coercible>

export type SizeClass<C extends SizedCluster = SizedCluster> = new (cluster: C) => Coercible

/**
 * What `setSize` takes. A number must be whole, from 0 up; the results of the others are truncated. A function is called at
 * every read until it returns an object, which is kept and read from then on. A class is constructed once, with the cluster.
 */
export type SizeSpec<C extends SizedCluster = SizedCluster> =
  | number
  | bigint
  | Coercible
  | SizeFunction<C>
  | SizeClass<C>

/** A size that can be read. */
export interface Size {
  /**
   * A finite number, neither truncated nor bounded yet.
   * @throws what the user's code throws; MANYHOST_SIZE_FAILED for anything but a finite number
   */
  read(): number | Promise<number>
}

/**
 * @throws ManyhostError MANYHOST_INVALID_SIZE for what can never be a size; MANYHOST_SIZE_FAILED when the constructor
 * of a class throws
 */
export function toSize<C extends SizedCluster>(given: SizeSpec<C>, cluster: C): Size {
  return createSizeFactory(given)(cluster)
}

/** `toSize` in two steps, so that a wrapper can refuse a wrong size at once, before there is a cluster. */
export function createSizeFactory<C extends SizedCluster>(
  given: SizeSpec<C>,
): (cluster: C) => Size {
  if (typeof given === 'number' || typeof given === 'bigint') {
    // A fraction that is given by hand is a mistake; only computed sizes are truncated.
    if (!(given >= 0 && Number.isInteger(Number(given)))) throw invalidSizeError(given)
    const size = wholeSize(given)
    return () => ({ read: () => size })
  }
  if (typeof given === 'function') {
    if (types.isGeneratorFunction(given)) throw invalidSizeError(given)
    if (isClass(given)) return (cluster) => sizeFromClass(given as SizeClass<C>, cluster)
    return (cluster) => sizeFromFunction(given as SizeFunction<C>, cluster)
  }
  if (!isCoercible(given)) throw invalidSizeError(given)
  return () => ({ read: () => coerceToNumber(given) })
}

/**
 * A read size as whole instances: truncated, and 0 for a negative one.
 * @throws ManyhostError MANYHOST_SIZE_FAILED for anything but a finite number or a bigint
 */
export function wholeSize(value: unknown): number {
  return Math.max(0, Math.trunc(toFiniteNumber(value)))
}

function sizeFromFunction<C extends SizedCluster>(ask: SizeFunction<C>, cluster: C): Size {
  let kept: Coercible | undefined
  const take = (answer: unknown): number | Promise<number> => {
    if (!isCoercible(answer)) return toFiniteNumber(answer)
    kept = answer
    return coerceToNumber(kept)
  }
  return {
    read() {
      if (kept) return coerceToNumber(kept)
      const answer: unknown = ask(cluster)
      return isThenable(answer) ? Promise.resolve(answer).then(take) : take(answer)
    },
  }
}

function sizeFromClass<C extends SizedCluster>(Balancer: SizeClass<C>, cluster: C): Size {
  const name = Balancer.name || 'the class'
  let balancer: unknown
  try {
    balancer = new Balancer(cluster)
  } catch (error) {
    const message = `${name} could not be constructed as the size of ${cluster.url}: ${describeError(error)}`
    throw new ManyhostError('MANYHOST_SIZE_FAILED', message, { cause: error, service: cluster.url })
  }
  if (!isCoercible(balancer)) {
    const message = `an instance of ${name} is no size: it has neither valueOf nor Symbol.toPrimitive`
    throw new ManyhostError('MANYHOST_INVALID_SIZE', message)
  }
  const kept = balancer
  return { read: () => coerceToNumber(kept) }
}

function invalidSizeError(got: unknown): ManyhostError {
  const allowed =
    'a size is a whole number from 0 up, a function (cluster) => number, a class that takes the cluster, or an ' +
    'object with valueOf or Symbol.toPrimitive'
  return new ManyhostError('MANYHOST_INVALID_SIZE', `${allowed}; got ${describe(got)}`)
}

export interface SizeReaderOptions {
  /** Last good size until the first read succeeds. */
  readonly initial: number
  /** @default 0 */
  readonly minSize?: number
  /** @default Infinity */
  readonly maxSize?: number
  /** Milliseconds after which a read that has not settled is reported. @default 5000 */
  readonly stallAfter?: number
  /** Virtual URL of the service, for messages. */
  readonly service?: string
  /** Called when the size has changed. It is whole, and between `minSize` and `maxSize`. */
  readonly onSize: (size: number) => void
  /**
   * Called with MANYHOST_SIZE_FAILED when reads begin to fail, and when they fail for another reason than before;
   * not at each failure.
   */
  readonly onError: (error: ManyhostError) => void
}

interface SizeReading {
  readonly startedAt: number
  stalled: boolean
}

/** Greatest number of nested reads: a listener of the size may set another one, which is read at once. */
const MAX_DEPTH = 4

/** Reports of new reasons until a read succeeds. A size may fail with another reason each time. */
const MAX_REPORTS = 5

/** Reads one cluster's size. Keeps the last good one, never overlaps two reads of a size, and owns no timer. */
export class SizeReader {
  readonly #options: SizeReaderOptions
  #source: Size | undefined
  #size: number
  /** The read that is under way. The result of a read that is not this one is late, and ignored. */
  #reading: SizeReading | undefined
  /** Nested reads that are under way. */
  #depth = 0
  /** What the last reads failed with, if they did, without its numbers. */
  #failure: string | undefined
  /** Reports since reads began to fail. */
  #reports = 0

  constructor(source: Size, options: SizeReaderOptions) {
    this.#source = source
    this.#options = options
    this.#size = this.#boundSize(options.initial)
  }

  /** The last good size. */
  get size(): number {
    return this.#size
  }

  /**
   * Starts a read, unless one runs. A size that answers at once is applied before this returns; but not where reads are
   * nested too deep, because a function that sets a size at each read would never come back. The next tick reads then.
   */
  read(at: number = now()): void {
    if (this.#depth >= MAX_DEPTH) return
    if (this.#reading) this.#checkStall(this.#reading, at)
    else if (this.#source) this.#startRead(this.#source, { startedAt: at, stalled: false })
  }

  /** Reads another size from now on; a late answer of the one before is ignored. Nothing once closed. */
  replace(source: Size): void {
    if (!this.#source) return
    this.#source = source
    this.#reading = undefined
    this.#failure = undefined
  }

  /** Reads no more. Idempotent. */
  close(): void {
    this.#source = undefined
    this.#reading = undefined
  }

  #startRead(source: Size, reading: SizeReading): void {
    // Before the user's code runs: it may come back here, through the queue or setSize.
    this.#reading = reading
    this.#runNested(() => {
      let answer: unknown
      try {
        answer = source.read()
      } catch (error) {
        this.#fail(reading, error)
        return
      }
      if (!isThenable(answer)) this.#settle(reading, answer)
      else {
        const settle = (value: unknown) => this.#runNested(() => this.#settle(reading, value))
        const fail = (error: unknown) => this.#runNested(() => this.#fail(reading, error))
        Promise.resolve(answer).then(settle, fail)
      }
    })
  }

  /** Around all that runs code of a user: the size itself, and those who listen to what became of it. */
  #runNested(act: () => void): void {
    this.#depth++
    try {
      act()
    } finally {
      this.#depth--
    }
  }

  #settle(reading: SizeReading, value: unknown): void {
    if (this.#reading !== reading) return
    let size: number
    try {
      size = this.#boundSize(value)
    } catch (error) {
      this.#fail(reading, error)
      return
    }
    this.#reading = undefined
    // A size that answers, but each time too late, is one failure and not one a read.
    if (!reading.stalled) this.#failure = undefined
    if (size === this.#size) return
    this.#size = size
    this.#options.onSize(size)
  }

  #fail(reading: SizeReading, thrown: unknown): void {
    if (this.#reading !== reading) return
    this.#reading = undefined
    this.#report(describeError(thrown), thrown)
  }

  #checkStall(reading: SizeReading, at: number): void {
    const { stallAfter = 5_000 } = this.#options
    if (reading.stalled || at - reading.startedAt < stallAfter) return
    reading.stalled = true
    this.#report(`it has not answered for ${stallAfter / 1_000} s`)
  }

  #report(failure: string, cause?: unknown): void {
    // A reason that differs in its numbers alone, such as a time, is the same one.
    const kind = failure.replace(/\d+/g, '0')
    if (kind === this.#failure) return
    if (this.#failure === undefined) this.#reports = 0
    this.#failure = kind
    if (++this.#reports > MAX_REPORTS) return
    const { service, onError } = this.#options
    const message = `the size${service ? ` of ${service}` : ''} stays ${this.#size}: ${failure}`
    const details = { ...(cause !== undefined && { cause }), ...(service && { service }) }
    onError(new ManyhostError('MANYHOST_SIZE_FAILED', message, details))
  }

  #boundSize(value: unknown): number {
    const { minSize = 0, maxSize = Infinity } = this.#options
    return Math.min(maxSize, Math.max(minSize, wholeSize(value)))
  }
}
