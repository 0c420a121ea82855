/** Counts the traffic of a service: plain numbers that cost next to nothing to keep and are read on demand. */
import type { Outcome } from '../core/events.ts'
import { Exemplars } from './exemplars.ts'
import { Histogram, type Quantiles } from './histogram.ts'

export interface TrafficStats {
  /** Requests so far. */
  readonly arrivals: number
  /** Requests that got a response, whatever its status. */
  readonly completions: number
  /** Requests that ended without a response. */
  readonly failures: number
  readonly resends: number
  readonly hedges: number
  /** Requests of which more than one attempt was written to a connection. */
  readonly executedTwice: number
  readonly ejections: number
  /** Milliseconds from the call to the end of the response, of the requests that were answered lately. */
  readonly latency: Quantiles
  /** Milliseconds in the queue. */
  readonly queueWait: Quantiles
}

/** Labels of `manyhost_requests_total`. */
export interface RequestCount {
  readonly method: string
  readonly code: number
  readonly outcome: Outcome
  readonly count: number
}

/** Methods with a label of their own. Any token is a method, but the number of labels must be bounded. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'CONNECT'])

export class Stats {
  arrivals = 0
  completions = 0
  failures = 0
  hedges = 0
  executedTwice = 0
  ejections = 0
  readonly resends = new Map<string, number>()
  readonly duration = new Histogram()
  /** Exemplars of `duration`. */
  readonly exemplars = new Exemplars()
  readonly queueWait = new Histogram()
  readonly attempt = new Histogram()
  readonly #lastCount = { method: '', code: 0, outcome: 'answered' as Outcome, count: 0 }
  readonly #requests = new Map<string, Map<string, Map<number, number>>>()

  recordSettled(method: string, code: number, outcome: Outcome): void {
    if (outcome === 'answered') this.completions++
    else this.failures++
    // Most requests end like the one before: one comparison replaces lookups in three maps.
    const last = this.#lastCount
    if (last.method === method && last.code === code && last.outcome === outcome) {
      last.count++
      return
    }
    this.#flush()
    last.method = method
    last.code = code
    last.outcome = outcome
    last.count = 1
  }

  /** Moves what `#lastCount` counted into the maps. */
  #flush(): void {
    const { method, code, outcome, count } = this.#lastCount
    if (count === 0) return
    this.#lastCount.count = 0
    const label = METHODS.has(method) ? method : 'OTHER'
    let outcomes = this.#requests.get(label)
    if (!outcomes) {
      outcomes = new Map()
      this.#requests.set(label, outcomes)
    }
    let codes = outcomes.get(outcome)
    if (!codes) {
      codes = new Map()
      outcomes.set(outcome, codes)
    }
    codes.set(code, (codes.get(code) ?? 0) + count)
  }

  recordResend(reason: string): void {
    this.resends.set(reason, (this.resends.get(reason) ?? 0) + 1)
  }

  requestCounts(): RequestCount[] {
    this.#flush()
    const counts: RequestCount[] = []
    for (const [method, outcomes] of this.#requests) {
      for (const [outcome, codes] of outcomes) {
        for (const [code, count] of codes) {
          counts.push({ method, code, outcome: outcome as Outcome, count })
        }
      }
    }
    return counts
  }

  /** Called about every half minute: the quantiles forget values older than a few such intervals. */
  fade(): void {
    this.duration.fade()
    this.queueWait.fade()
    this.attempt.fade()
  }

  read(): TrafficStats {
    let resends = 0
    for (const count of this.resends.values()) resends += count
    return {
      arrivals: this.arrivals,
      completions: this.completions,
      failures: this.failures,
      resends,
      hedges: this.hedges,
      executedTwice: this.executedTwice,
      ejections: this.ejections,
      latency: this.duration.quantiles(),
      queueWait: this.queueWait.quantiles(),
    }
  }
}
