/** `manyhost restart`: replaces instances one by one. */
import { sleep } from '../core/time.ts'
import { AdminClient, type AdminFlags, clusterPath } from './admin-client.ts'
import { EXIT } from './exit.ts'
import { createProgressLine } from './progress-line.ts'
import type { NamedCluster } from './status.ts'
import { writeLine } from './terminal.ts'
import { formatCount } from './text.ts'

interface RestartFlags extends AdminFlags {
  readonly wait: boolean
}

const POLL_INTERVAL_MS = 250

export async function run(
  [name = '', instance]: readonly (string | undefined)[],
  options: RestartFlags,
): Promise<number> {
  const admin = new AdminClient(options)
  const instancePath = instance === undefined ? '' : `/instances/${encodeURIComponent(instance)}`
  try {
    const before = await admin.requestJson<NamedCluster>(clusterPath(name))
    const old = before.instances.filter(({ id }) => instance === undefined || id === instance)
    const ids = new Set(old.map(({ id }) => id))
    const path = clusterPath(name, `${instancePath}/restart${options.wait ? '?wait=1' : ''}`)
    // With `wait` the response comes after the last instance was replaced, which can take long.
    const response = admin.requestOk(path, { method: 'POST', isStreaming: true })
    const ended = new AbortController()
    const watching = showReplacement(admin, name, ids, ended.signal)
    try {
      await (await response).body.dump()
    } finally {
      ended.abort()
      await watching
    }
    await writeLine(
      `${before.url}: ${options.wait ? 'restarted' : 'restarting'} ${formatCount(ids.size, 'instance')}`,
    )
    return EXIT.ok.number
  } finally {
    await admin.close()
  }
}

async function showReplacement(
  admin: AdminClient,
  name: string,
  old: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<void> {
  if (!process.stderr.isTTY) return
  const progress = createProgressLine()
  while (!signal.aborted) {
    await sleep(POLL_INTERVAL_MS, signal).catch(() => {})
    if (signal.aborted) break
    const now = await admin.requestJson<NamedCluster>(clusterPath(name)).catch(() => undefined)
    if (!now) break
    const left = now.instances.filter(({ id, state }) => old.has(id) && state !== 'draining').length
    progress.show(`${now.url}: ${old.size - left} of ${formatCount(old.size, 'instance')} replaced`)
  }
  progress.clear()
}
