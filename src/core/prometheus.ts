/** Figures that are kept elsewhere, for Prometheus: read when they are asked for, so that nothing is counted twice. */
import { Counter, Gauge, type Histogram, type Registry } from 'prom-client'
import { ManyhostError } from './errors.ts'

export type MetricLabels = Readonly<Record<string, string | number>>

/** Adds to the series with these labels. */
export type AddToSeries = (labels: MetricLabels, value: number) => void

/** Kind; names of the labels, with commas; meaning. */
export type MetricDefinition = readonly [
  kind: 'counter' | 'gauge' | 'histogram',
  labels: string,
  help: string,
]

/** One figure of an owner, with the means to read it. Called at each scrape; says all series anew. */
export type MetricSource = { readonly name: string; readonly definition: MetricDefinition } & (
  | { readonly read: (add: AddToSeries) => void }
  | { readonly buckets: () => Iterable<HistogramBuckets> }
)

/**
 * Whose figures they are: the name of the label by which the second and further owners on one registry are told apart.
 * The first one has no such label, so that series are what they were as long as there is one owner.
 */
export type MetricOwner = 'session' | 'feed' | 'server' | 'provider'

/** A metric of a registry that all owners there share. */
interface SharedMetric {
  readonly metric: unknown
  readonly sources: Map<MetricRegistration, MetricSource>
}

interface MetricRegistration {
  /** 1, 2, ...: the least that was free. */
  readonly number: number
}

interface RegisteredMetrics {
  readonly shared: Map<string, SharedMetric>
  /** Numbers that are taken, by the first name of a set of figures: those of one kind are numbered together. */
  readonly numbers: Map<string, Set<number>>
}

const metricsByRegistry = new WeakMap<Registry, RegisteredMetrics>()

/**
 * Registers all figures of an owner with a registry, or none of them.
 * @returns takes them out again; idempotent
 * @throws ManyhostError MANYHOST_INVALID_OPTION where the registry has a metric of that name which is somebody else's
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
    // A registry that was cleared has forgotten the metric, and all who had figures there are gone with it.
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
    `registry: it has a metric ${name} already that is not of manyhost; give another registry, or none`,
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

/** As prom-client has it; OpenMetrics shows it, the plain text does not. */
export interface SampleExemplar {
  readonly labelSet: Record<string, string>
  readonly value: number
  /** In s. */
  readonly timestamp: number
}

/** A histogram of one set of labels. */
export interface HistogramBuckets {
  readonly labels: MetricLabels
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

/** Cumulative, as the exposition format has it. */
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
