/** Metrics for Prometheus whose values are kept elsewhere. They are read at each scrape, so that nothing is counted twice. */
import { Counter, Gauge, type Histogram, type Registry } from 'prom-client'
import { ManyhostError } from './errors.ts'

export type MetricLabels = Readonly<Record<string, string | number>>

/** Adds to the series with these labels. */
export type AddToSeries = (labels: MetricLabels, value: number) => void

/** The kind of a metric, the names of its labels with commas between them, and its meaning. */
export type MetricDefinition = readonly [
  kind: 'counter' | 'gauge' | 'histogram',
  labels: string,
  help: string,
]

/** A metric of one owner, and the function that reads it. It is called at each scrape, and gives all series. */
export type MetricSource = { readonly name: string; readonly definition: MetricDefinition } & (
  | { readonly read: (add: AddToSeries) => void }
  | { readonly buckets: () => Iterable<HistogramBuckets> }
)

/**
 * The kind of owner of metrics: the name of the label that the second and further owners of one registry have. The first
 * owner has no such label, so that the series of a single owner have the usual names.
 */
export type MetricOwner = 'session' | 'feed' | 'server' | 'provider'

/** A metric of a registry, with the sources of all its owners. */
interface SharedMetric {
  readonly metric: unknown
  readonly sources: Map<MetricRegistration, MetricSource>
}

interface MetricRegistration {
  /** 1, 2, ...: the lowest number that was free. */
  readonly number: number
}

interface RegisteredMetrics {
  readonly shared: Map<string, SharedMetric>
  /** Numbers in use, by the first name of a set of metrics: owners of the same set are numbered together. */
  readonly numbers: Map<string, Set<number>>
}

const metricsByRegistry = new WeakMap<Registry, RegisteredMetrics>()

/**
 * Registers all metrics of an owner, or none of them.
 * @returns a function that removes them; idempotent
 * @throws ManyhostError MANYHOST_INVALID_OPTION if the registry has a metric of the same name that is not manyhost's
 */
export function registerMetricSources(
  registry: Registry,
  owner: MetricOwner,
  sources: readonly MetricSource[],
): () => void {
  const { shared, numbers: taken } = registeredMetricsOf(registry)
  for (const { name } of sources) {
    const there = registry.getSingleMetric(name)
    if (there !== undefined && shared.get(name)?.metric !== there) throw metricNameTakenError(name)
  }
  const kind = sources[0]?.name ?? ''
  const numbers = taken.get(kind) ?? new Set()
  taken.set(kind, numbers)
  const registration: MetricRegistration = { number: lowestFreeNumber(numbers) }
  numbers.add(registration.number)
  for (const source of sources) {
    const { name } = source
    // A registry that was cleared has lost the metric, and the sources of all its owners.
    if (registry.getSingleMetric(name) === undefined)
      shared.set(name, createSharedMetric(registry, owner, source))
    shared.get(name)?.sources.set(registration, source)
  }
  return () => {
    numbers.delete(registration.number)
    for (const { name } of sources) {
      const one = shared.get(name)
      if (!one?.sources.delete(registration) || one.sources.size > 0) continue
      shared.delete(name)
      if (registry.getSingleMetric(name) === one.metric) registry.removeSingleMetric(name)
    }
  }
}

function registeredMetricsOf(registry: Registry): RegisteredMetrics {
  let found = metricsByRegistry.get(registry)
  if (!found) {
    found = { shared: new Map(), numbers: new Map() }
    metricsByRegistry.set(registry, found)
  }
  return found
}

function lowestFreeNumber(numbers: ReadonlySet<number>): number {
  let number = 1
  while (numbers.has(number)) number++
  return number
}

function metricNameTakenError(name: string): ManyhostError {
  return new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `registry: another program part has registered a metric ${name} already; give another registry, or none`,
  )
}

function createSharedMetric(
  registry: Registry,
  owner: MetricOwner,
  first: MetricSource,
): SharedMetric {
  const sources = new Map<MetricRegistration, MetricSource>()
  const { name, definition: figure } = first
  if ('buckets' in first) {
    const metric = createHistogram(name, figure, () => collectBuckets(owner, sources))
    registry.registerMetric(metric)
    return { metric, sources }
  }
  const [kind, labels, help] = figure
  const make = kind === 'counter' ? Counter : Gauge
  const metric: Counter | Gauge = new make({
    name,
    help,
    labelNames: [...labels.split(',').filter(Boolean), owner],
    registers: [registry],
    collect() {
      metric.reset()
      for (const [{ number }, source] of sources) {
        const more = ownerLabel(owner, number)
        if ('read' in source)
          source.read((values, value) => metric.inc({ ...values, ...more }, value))
      }
    },
  })
  return { metric, sources }
}

function ownerLabel(owner: MetricOwner, number: number): MetricLabels {
  return number === 1 ? {} : { [owner]: String(number) }
}

function* collectBuckets(
  owner: MetricOwner,
  sources: ReadonlyMap<MetricRegistration, MetricSource>,
): Generator<HistogramBuckets> {
  for (const [{ number }, source] of sources) {
    if (!('buckets' in source)) continue
    const more = ownerLabel(owner, number)
    for (const one of source.buckets()) yield { ...one, labels: { ...one.labels, ...more } }
  }
}

export interface MetricSample {
  readonly labels: MetricLabels
  readonly value: number
  readonly metricName: string
  readonly exemplar?: SampleExemplar | undefined
}

/** In the form of prom-client. The OpenMetrics format has exemplars, the plain text format has not. */
export interface SampleExemplar {
  readonly labelSet: Record<string, string>
  readonly value: number
  /** In seconds since 1970. */
  readonly timestamp: number
}

/** A histogram of one set of labels. */
export interface HistogramBuckets {
  readonly labels: MetricLabels
  /** Upper bounds, ascending, without infinity. */
  readonly bounds: readonly number[]
  /** The number of values in each bucket, not cumulative. The last bucket is above all bounds. */
  readonly counts: ArrayLike<number>
  readonly sum: number
  readonly count: number
  readonly exemplarOf?: (bucket: number) => SampleExemplar | undefined
}

/**
 * A metric that a registry of prom-client accepts: a registry calls only `get()`. prom-client's own histogram needs the labels
 * with each value, which costs too much on the hot path.
 */
function createHistogram(
  name: string,
  [, , help]: MetricDefinition,
  read: () => Iterable<HistogramBuckets>,
): Histogram<string> {
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
      values: [...read()].flatMap((buckets) => histogramSamples(name, buckets)),
    }),
    reset() {},
  }
  return metric as unknown as Histogram<string>
}

/** The samples of a histogram. Its buckets are cumulative, as the exposition format requires. */
function histogramSamples(
  name: string,
  { labels, bounds, counts, sum, count, ...rest }: HistogramBuckets,
): MetricSample[] {
  const bucket = (le: number | string, index: number, value: number): MetricSample => ({
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
