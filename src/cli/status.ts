/** `manyhost status`: all services in a table, or one with its instances. */

import { wallClock } from '../core/time.ts'
import type { ClusterSnapshot } from '../session/snapshot.ts'
import { Admin, type AdminOptions, clusterPath } from './admin.ts'
import { againAndAgain } from './again.ts'
import { type Column, span, table } from './table.ts'
import { type Paint, paintFor, printable, stateStyle, write } from './terminal.ts'

interface StatusOptions extends AdminOptions {
  readonly json?: boolean
  readonly names?: boolean
  readonly watch?: boolean
}

/** What the admin API answers. */
export interface NamedCluster extends ClusterSnapshot {
  readonly name: string
}

const INTERVAL = 2_000

export async function run(
  [name]: readonly (string | undefined)[],
  options: StatusOptions,
): Promise<number> {
  const admin = new Admin(options)
  const look = async (): Promise<string> => {
    if (name === undefined) {
      const all = await admin.json<{ clusters: NamedCluster[] }>('/api/clusters')
      if (options.names) return all.clusters.map((one) => `${one.name}\n`).join('')
      return options.json ? asJson(all, options) : summary(all.clusters, paintFor())
    }
    const one = await admin.json<NamedCluster>(clusterPath(name))
    return options.json ? asJson(one, options) : details(one, paintFor())
  }
  try {
    if (!options.watch) {
      await write(await look())
      return 0
    }
    return await againAndAgain(look, INTERVAL)
  } finally {
    await admin.close()
  }
}

/** On one line each where there will be more of them. */
function asJson(value: unknown, { watch }: StatusOptions): string {
  return `${JSON.stringify(value, null, watch ? undefined : 2)}\n`
}

const COLUMNS: readonly Column[] = [
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

export function summary(clusters: readonly NamedCluster[], paint: Paint): string {
  if (clusters.length === 0) return 'no services\n'
  const rows = clusters.map((cluster) => {
    const { size, queue, stats, failure } = cluster
    const ready = readyOf(cluster)
    return [
      printable(cluster.name),
      paint(ready >= size ? 'green' : 'yellow', String(ready)),
      String(size),
      `${cluster.inFlight}/${ready * cluster.concurrency}`,
      queue.size > 0 ? paint('yellow', String(queue.size)) : '0',
      queue.size > 0 ? span(queue.oldestAge) : '-',
      stats.completions > 0 ? span(stats.latency.p50) : '-',
      stats.completions > 0 ? span(stats.latency.p99) : '-',
      String(stats.completions),
      stats.failures > 0 ? paint('red', String(stats.failures)) : '0',
      failure ? paint('red', firstLine(failure)) : '-',
    ]
  })
  return `${table(COLUMNS, rows, (head) => paint('bold', head)).join('\n')}\n`
}

const INSTANCE_COLUMNS: readonly Column[] = [
  { title: 'INSTANCE' },
  { title: 'STATE' },
  { title: 'BUSY', align: 'right' },
  { title: 'SERVED', align: 'right' },
  { title: 'AGE', align: 'right' },
  { title: 'PROVIDER' },
  { title: 'ADDRESS' },
]

function details(cluster: NamedCluster, paint: Paint): string {
  const { url, size, queue, instances, failure } = cluster
  const head = `${printable(url)}: ${readyOf(cluster)} of ${size} ready, ${cluster.inFlight} requests in flight, ${queue.size} waiting`
  const trouble = failure ? [paint('red', `trouble: ${firstLine(failure)}`)] : []
  const rows = instances.map(({ id, state, inFlight, served, startedAt, provider, address }) => [
    printable(id),
    paint(stateStyle(state), state),
    `${inFlight}/${cluster.concurrency}`,
    String(served),
    span(wallClock() - startedAt),
    provider,
    printable(address ?? '-'),
  ])
  const all =
    rows.length > 0
      ? table(INSTANCE_COLUMNS, rows, (text) => paint('bold', text))
      : ['no instances']
  return `${[head, ...trouble, '', ...all].join('\n')}\n`
}

export function readyOf({ instances }: ClusterSnapshot): number {
  return instances.filter(({ state }) => state === 'ready').length
}

function firstLine(text: string): string {
  return printable(text.split('\n', 1)[0] as string).slice(0, 120)
}
