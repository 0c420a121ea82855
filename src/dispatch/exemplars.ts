/**
 * Keeps one request for each bucket of a histogram (an exemplar), so that a reader who sees a slow bucket finds a slow
 * request. A bucket takes a new exemplar at most once a second: scrapes are seconds apart, and more would cost CPU for
 * each request.
 */
import { wallClock } from '../core/time.ts'
import type { RequestInput } from './exchange.ts'
import { DURATION_BUCKETS } from './histogram.ts'

export interface Exemplar {
  readonly id: string
  /** Trace of the request (W3C Trace Context), if it has one. */
  readonly traceId: string | undefined
  readonly ms: number
  /** Milliseconds since 1970. */
  readonly at: number
}

/** Milliseconds for which an exemplar is kept before it can be replaced. */
const EXEMPLAR_LIFETIME = 1_000

export class Exemplars {
  readonly #byBucket: (Exemplar | undefined)[] = DURATION_BUCKETS.map(() => undefined)
  readonly #keptUntil = new Float64Array(DURATION_BUCKETS.length + 1)

  /** @param at on the clock of `now()` */
  record(bucket: number, ms: number, at: number, { id, headers }: RequestInput): void {
    if (at < (this.#keptUntil[bucket] as number)) return
    this.#keptUntil[bucket] = at + EXEMPLAR_LIFETIME
    this.#byBucket[bucket] = { id, traceId: traceIdOf(headers), ms, at: wallClock() }
  }

  /** The exemplar of a bucket of `DURATION_BUCKETS`, or of the bucket above all of them. */
  get(bucket: number): Exemplar | undefined {
    return this.#byBucket[bucket]
  }
}

const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}/

/** The trace id of `traceparent: 00-<trace id>-<parent>-<flags>`; an id of zeros is invalid. */
function traceIdOf(headers: readonly string[]): string | undefined {
  for (let index = 0; index < headers.length; index += 2) {
    if ((headers[index] as string).toLowerCase() !== 'traceparent') continue
    const id = TRACEPARENT.exec(headers[index + 1] as string)?.[1]
    return id === undefined || /^0+$/.test(id) ? undefined : id
  }
  return undefined
}
