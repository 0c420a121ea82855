/** Figures that are kept elsewhere, for Prometheus: read when they are asked for, so that nothing is counted twice. */
import { Counter, Gauge, type Histogram, type Registry } from 'prom-client'

export type Labels = Readonly<Record<string, string | number>>

/** Adds to the series with these labels. */
export type Add = (labels: Labels, value: number) => void

/** Kind; names of the labels, with commas; meaning. */
export type Figure = readonly [
  kind: 'counter' | 'gauge' | 'histogram',
  labels: string,
  help: string,
]

/** @param read called at each scrape; says all series anew */
export function registerFigure(
  registry: Registry,
  name: string,
  [kind, labels, help]: Figure,
  read: (add: Add) => void,
): void {
  const make = kind === 'counter' ? Counter : Gauge
  const metric: Counter | Gauge = new make({
    name,
    help,
    labelNames: labels.split(',').filter(Boolean),
    registers: [registry],
    collect() {
      metric.reset()
      read((values, value) => metric.inc(values, value))
    },
  })
}

export interface Sample {
  readonly labels: Labels
  readonly value: number
  readonly metricName: string
  readonly exemplar?: SampleExemplar | undefined
}

/** As prom-client has it; OpenMetrics shows it, the plain text does not. */
export interface SampleExemplar {
  readonly labelSet: Record<string, string>
  readonly value: number
  /** In s. */
  readonly timestamp: number
}

/** A histogram of one set of labels. */
export interface Buckets {
  readonly labels: Labels
  /** Upper bounds, ascending, without infinity. */
  readonly bounds: readonly number[]
  /** Values in each bucket alone; the last is of what is above all bounds. */
  readonly counts: ArrayLike<number>
  readonly sum: number
  readonly count: number
  readonly exemplarOf?: (bucket: number) => SampleExemplar | undefined
}

/**
 * prom-client's own histogram takes each value with its labels, which costs more than a request or a message may; its
 * registry asks a metric for no more than `get()`.
 * @param read called at each scrape
 */
export function registerHistogram(
  registry: Registry,
  name: string,
  [, , help]: Figure,
  read: () => Iterable<Buckets>,
): void {
  const metric = {
    name,
    help,
    type: 'histogram',
    aggregator: 'sum',
    get: async () => ({
      name,
      help,
      type: 'histogram',
      aggregator: 'sum',
      values: [...read()].flatMap((buckets) => series(name, buckets)),
    }),
    reset() {},
  }
  registry.registerMetric(metric as unknown as Histogram<string>)
}

/** Cumulative, as the exposition format has it. */
function series(name: string, { labels, bounds, counts, sum, count, ...rest }: Buckets): Sample[] {
  const bucket = (le: number | string, index: number, value: number): Sample => ({
    labels: { le, ...labels },
    value,
    metricName: `${name}_bucket`,
    exemplar: rest.exemplarOf?.(index),
  })
  let total = 0
  const buckets = bounds.map((le, index) => {
    total += counts[index] as number
    return bucket(le, index, total)
  })
  return [
    ...buckets,
    bucket('+Inf', bounds.length, count),
    { labels, value: sum, metricName: `${name}_sum` },
    { labels, value: count, metricName: `${name}_count` },
  ]
}
