/**
 * One request for each bucket of a histogram, so that whoever sees a slow bucket finds a request that was slow. No
 * bucket gets another one within a second: what is read each few seconds need not cost each request something.
 */
import { wallClock } from '../core/time.ts'
import type { RequestFacts } from './exchange.ts'
import { BUCKETS } from './histogram.ts'

export interface Exemplar {
  readonly id: string
  /** Of the trace that the request belongs to (W3C Trace Context), if it said so. */
  readonly traceId: string | undefined
  readonly ms: number
  /** Milliseconds since 1970. */
  readonly at: number
}

/** Milliseconds for which an exemplar stays. */
const FRESH = 1_000

export class Exemplars {
  readonly #all: (Exemplar | undefined)[] = BUCKETS.map(() => undefined)
  readonly #until = new Float64Array(BUCKETS.length + 1)

  /** @param at on the clock of `now()` */
  note(bucket: number, ms: number, at: number, { id, headers }: RequestFacts): void {
    if (at < (this.#until[bucket] as number)) return
    this.#until[bucket] = at + FRESH
    this.#all[bucket] = { id, traceId: traceIdOf(headers), ms, at: wallClock() }
  }

  /** That of a bucket of `BUCKETS`, or of the one for all above. */
  of(bucket: number): Exemplar | undefined {
    return this.#all[bucket]
  }
}

const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}/

/** Out of `traceparent: 00-<trace id>-<parent>-<flags>`; one of zeros is none. */
function traceIdOf(headers: readonly string[]): string | undefined {
  for (let index = 0; index < headers.length; index += 2) {
    if ((headers[index] as string).toLowerCase() !== 'traceparent') continue
    const id = TRACEPARENT.exec(headers[index + 1] as string)?.[1]
    return id === undefined || /^0+$/.test(id) ? undefined : id
  }
  return undefined
}
