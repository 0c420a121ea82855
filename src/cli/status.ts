/** `manyhost status`: prints a table of all services, or one service with its instances. */
import { wallClock } from '../core/time.ts'
import type { ClusterSnapshot } from '../session/snapshot.ts'
import { AdminClient, type AdminFlags, clusterPath } from './admin-client.ts'
import { repeatUntilInterrupted } from './repeat.ts'
import { formatTable, type TableColumn } from './table.ts'
import { createPaint, type Paint, printable, stateStyle, write } from './terminal.ts'
import { formatDuration, takeFirstLine } from './text.ts'

interface StatusFlags extends AdminFlags {
  readonly json?: boolean
  readonly names?: boolean
  readonly watch?: boolean
}

/** A cluster as the admin API has it. */
export interface NamedCluster extends ClusterSnapshot {
  readonly name: string
}

const WATCH_INTERVAL_MS = 2_000

/** How much of a failure fits beside the columns of the table, in characters. */
const MAX_FAILURE_LENGTH = 120

export async function run(
  [name]: readonly (string | undefined)[],
  options: StatusFlags,
): Promise<number> {
  const admin = new AdminClient(options)
  const render = async (): Promise<string> => {
    if (name === undefined) {
      const all = await admin.requestJson<{ clusters: NamedCluster[] }>('/api/clusters')
      if (options.names) return all.clusters.map((one) => `${one.name}\n`).join('')
      return options.json ? formatJson(all, options) : formatSummary(all.clusters, createPaint())
    }
    const one = await admin.requestJson<NamedCluster>(clusterPath(name))
    return options.json ? formatJson(one, options) : formatDetails(one, createPaint())
  }
  try {
    if (!options.watch) {
      await write(await render())
      return 0
    }
    return await repeatUntilInterrupted(render, WATCH_INTERVAL_MS)
  } finally {
    await admin.close()
  }
}

/** With `--watch` each JSON value is one line, so that a program can read one after the other. */
function formatJson(value: unknown, { watch }: StatusFlags): string {
  return `${JSON.stringify(value, null, watch ? undefined : 2)}\n`
}

const COLUMNS: readonly TableColumn[] = [
  { title: 'SERVICE' },
  { title: 'READY', align: 'right' },
  { title: 'SIZE', align: 'right' },
  { title: 'BUSY', align: 'right' },
  { title: 'QUEUE', align: 'right' },
  { title: 'WAIT', align: 'right' },
  { title: 'P50', align: 'right' },
  { title: 'P99', align: 'right' },
  { title: 'ANSWERED', align: 'right' },
  { title: 'FAILED', align: 'right' },
  { title: 'TROUBLE' },
]

export function formatSummary(clusters: readonly NamedCluster[], paint: Paint): string {
  if (clusters.length === 0) return 'no services\n'
  const rows = clusters.map((cluster) => {
    const { size, queue, stats, failure } = cluster
    const ready = countReady(cluster)
    return [
      printable(cluster.name),
      paint(ready >= size ? 'green' : 'yellow', String(ready)),
      String(size),
      `${cluster.inFlight}/${ready * cluster.concurrency}`,
      queue.size > 0 ? paint('yellow', String(queue.size)) : '0',
      queue.size > 0 ? formatDuration(queue.oldestAge) : '-',
      stats.completions > 0 ? formatDuration(stats.latency.p50) : '-',
      stats.completions > 0 ? formatDuration(stats.latency.p99) : '-',
      String(stats.completions),
      stats.failures > 0 ? paint('red', String(stats.failures)) : '0',
      failure ? paint('red', shorten(failure)) : '-',
    ]
  })
  return `${formatTable(COLUMNS, rows, (head) => paint('bold', head)).join('\n')}\n`
}

const INSTANCE_COLUMNS: readonly TableColumn[] = [
  { title: 'INSTANCE' },
  { title: 'STATE' },
  { title: 'BUSY', align: 'right' },
  { title: 'SERVED', align: 'right' },
  { title: 'AGE', align: 'right' },
  { title: 'PROVIDER' },
  { title: 'ADDRESS' },
]

function formatDetails(cluster: NamedCluster, paint: Paint): string {
  const { url, size, queue, instances, failure } = cluster
  const head = `${printable(url)}: ${countReady(cluster)} of ${size} ready, ${cluster.inFlight} requests in flight, ${queue.size} waiting`
  const trouble = failure ? [paint('red', `trouble: ${shorten(failure)}`)] : []
  const rows = instances.map(({ id, state, inFlight, served, startedAt, provider, address }) => [
    printable(id),
    paint(stateStyle(state), state),
    `${inFlight}/${cluster.concurrency}`,
    String(served),
    formatDuration(wallClock() - startedAt),
    provider,
    printable(address ?? '-'),
  ])
  const all =
    rows.length > 0
      ? formatTable(INSTANCE_COLUMNS, rows, (text) => paint('bold', text))
      : ['no instances']
  return `${[head, ...trouble, '', ...all].join('\n')}\n`
}

export function countReady({ instances }: ClusterSnapshot): number {
  return instances.filter(({ state }) => state === 'ready').length
}

function shorten(failure: string): string {
  return takeFirstLine(failure).slice(0, MAX_FAILURE_LENGTH)
}
