/**
 * The metrics of a registry in the OpenMetrics format. prom-client can write it only after it has renamed the counters of the
 * registry permanently, which makes its plain text wrong. This code only reads the registry.
 */
import type { Registry } from 'prom-client'

export const OPENMETRICS_TYPE = 'application/openmetrics-text; version=1.0.0; charset=utf-8'

interface OpenMetricsSample {
  readonly value: number
  readonly labels?: Readonly<Record<string, string | number>>
  readonly metricName?: string
  readonly exemplar?: {
    readonly labelSet: Readonly<Record<string, string | number>>
    readonly value: number
    readonly timestamp: number
  } | null
}

/** Whether the caller prefers OpenMetrics, or accepts it as much as plain text. */
export function wantsOpenMetrics(accept: string | undefined): boolean {
  const wanted = acceptWeight(accept, 'application/openmetrics-text')
  return wanted > 0 && wanted >= acceptWeight(accept, 'text/plain')
}

function acceptWeight(accept: string | undefined, type: string): number {
  let best = 0
  for (const range of (accept ?? '').split(',')) {
    const [name = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase())
    if (name !== type) continue
    const q = parameters.find((part) => part.startsWith('q='))
    best = Math.max(best, q === undefined ? 1 : Number(q.slice(2)) || 0)
  }
  return best
}

export async function renderOpenMetrics(registry: Registry): Promise<string> {
  const lines: string[] = []
  for (const metric of await registry.getMetricsAsJSON()) {
    const { name, help, type } = metric as unknown as { name: string; help: string; type: string }
    const values = metric.values as readonly OpenMetricsSample[]
    const isCounter = type === 'counter'
    const family = isCounter ? name.replace(/_total$/, '') : name
    lines.push(`# TYPE ${family} ${type}`, `# HELP ${family} ${escapeLabel(help)}`)
    for (const { value, labels = {}, metricName = name, exemplar } of values) {
      const sample = isCounter ? `${family}_total` : metricName
      const mark = exemplar
        ? ` # ${formatLabels(exemplar.labelSet) || '{}'} ${formatNumber(exemplar.value)} ${exemplar.timestamp}`
        : ''
      lines.push(`${sample}${formatLabels(labels)} ${formatNumber(value)}${mark}`)
    }
  }
  return `${lines.join('\n')}\n# EOF\n`
}

function formatLabels(labels: Readonly<Record<string, string | number>>): string {
  const parts = Object.entries(labels).map(([name, value]) => {
    // OpenMetrics writes bounds of buckets as floats: 1.0, not 1.
    const isWhole = (name === 'le' || name === 'quantile') && Number.isInteger(Number(value))
    return `${name}="${escapeLabel(isWhole ? Number(value).toFixed(1) : String(value))}"`
  })
  return parts.length > 0 ? `{${parts.join(',')}}` : ''
}

function formatNumber(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (Number.isFinite(value)) return String(value)
  return value > 0 ? '+Inf' : '-Inf'
}

function escapeLabel(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')
}
