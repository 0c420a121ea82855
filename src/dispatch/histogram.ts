/** Counts durations in buckets: one increment for each value, without an allocation. */

/** Upper bounds in seconds, as Prometheus shows them. */
export const DURATION_BUCKETS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
] as const

/** Fine buckets grow by 2^(1/8), 9 %, from 0.01 ms: 256 of them reach 11 hours. */
const STEPS_PER_DOUBLING = 8
const MIN_FINE_MS = 0.01
const FINE_BUCKETS = 256

export interface Quantiles {
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly mean: number
}

export class Histogram {
  /** Values in each bucket of `DURATION_BUCKETS` alone; the last count is of values above all bounds. */
  readonly counts = new Float64Array(DURATION_BUCKETS.length + 1)
  /** Sum in ms. */
  sum = 0
  count = 0
  readonly #fine = new Float64Array(FINE_BUCKETS)

  /** @param ms a duration in milliseconds; @returns the index of its bucket in `counts` */
  record(ms: number): number {
    this.count++
    this.sum += ms
    const seconds = ms / 1_000
    let bucket = 0
    while (bucket < DURATION_BUCKETS.length && seconds > (DURATION_BUCKETS[bucket] as number))
      bucket++
    this.counts[bucket] = (this.counts[bucket] as number) + 1
    const fine = fineBucket(ms)
    this.#fine[fine] = (this.#fine[fine] as number) + 1
    return bucket
  }

  /** The duration in ms that a share `q` (0 to 1) of the values does not exceed, to 9 %. 0 without values. */
  quantile(q: number): number {
    let left = q * this.#fineTotal()
    for (let index = 0; index < FINE_BUCKETS; index++) {
      left -= this.#fine[index] as number
      if (left <= 0 && this.count > 0)
        return MIN_FINE_MS * 2 ** ((index + 0.5) / STEPS_PER_DOUBLING)
    }
    return 0
  }

  #fineTotal(): number {
    let total = 0
    for (let index = 0; index < FINE_BUCKETS; index++) total += this.#fine[index] as number
    return total
  }

  quantiles(): Quantiles {
    return {
      p50: this.quantile(0.5),
      p90: this.quantile(0.9),
      p99: this.quantile(0.99),
      mean: this.count === 0 ? 0 : this.sum / this.count,
    }
  }

  /** Halves the counts of the quantiles, so that they follow the present. `counts`, `sum` and `count` stay. */
  fade(): void {
    for (let index = 0; index < FINE_BUCKETS; index++)
      this.#fine[index] = (this.#fine[index] as number) / 2
  }
}

function fineBucket(ms: number): number {
  if (ms <= MIN_FINE_MS) return 0
  const index = Math.floor(Math.log2(ms / MIN_FINE_MS) * STEPS_PER_DOUBLING)
  return index < FINE_BUCKETS ? index : FINE_BUCKETS - 1
}
