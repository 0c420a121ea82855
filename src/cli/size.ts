/** `manyhost size`: how many instances a service has, and shall have. */
import { sleep } from '../core/time.ts'
import { AdminClient, type AdminFlags, clusterPath } from './admin-client.ts'
import { CliError, EXIT } from './exit.ts'
import { createProgressLine } from './progress-line.ts'
import { countReady, type NamedCluster } from './status.ts'
import { writeLine } from './terminal.ts'

interface SizeFlags extends AdminFlags {
  readonly wait: boolean
}

const POLL_INTERVAL_MS = 100

export async function run(
  [name = '', wanted]: readonly (string | undefined)[],
  options: SizeFlags,
): Promise<number> {
  const size = wanted === undefined ? undefined : parseInstanceCount(wanted)
  const admin = new AdminClient(options)
  try {
    const before = await admin.requestJson<NamedCluster>(clusterPath(name))
    if (size === undefined) {
      await writeLine(String(before.size))
      return EXIT.ok.number
    }
    const call = { method: 'PUT', json: { size } } as const
    const after = await admin.requestJson<NamedCluster>(clusterPath(name, '/size'), call)
    // Held within the service's own limits.
    const held =
      after.size === size ? '' : ` (${size} is outside ${after.minSize}..${after.maxSize ?? ''})`
    await writeLine(`${after.url}: ${before.size} -> ${after.size}${held}`)
    if (options.wait) await waitForSize(admin, name)
    return EXIT.ok.number
  } finally {
    await admin.close()
  }
}

function parseInstanceCount(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw new CliError(
    'usage',
    `instances: expected a whole number from 0 up, got ${JSON.stringify(text)}`,
  )
}

/** Until there are as many ready ones as are wanted, and no others. */
async function waitForSize(admin: AdminClient, name: string): Promise<void> {
  const shown = createProgressLine()
  try {
    for (;;) {
      const cluster = await admin.requestJson<NamedCluster>(clusterPath(name))
      const ready = countReady(cluster)
      if (ready === cluster.size && cluster.instances.length === ready) return
      if (cluster.failure && ready < cluster.size) {
        throw new CliError(
          'failure',
          `${cluster.url}: ${ready} of ${cluster.size} are ready: ${cluster.failure.split('\n', 1)[0]}`,
        )
      }
      shown.show(
        `${cluster.url}: ${ready} of ${cluster.size} ready, ${cluster.instances.length - ready} others`,
      )
      await sleep(POLL_INTERVAL_MS)
    }
  } finally {
    shown.clear()
  }
}
