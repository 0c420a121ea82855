/** `manyhost size`: prints or changes how many instances a service has. */
import { describeError } from '../core/errors.ts'
import { sleep } from '../core/time.ts'
import { AdminClient, type AdminFlags, clusterPath } from './admin-client.ts'
import { CliError, EXIT } from './exit.ts'
import { parseWholeNumber } from './option-values.ts'
import { createProgressLine } from './progress-line.ts'
import { countReady, type NamedCluster } from './status.ts'
import { writeLine } from './terminal.ts'
import { takeFirstLine } from './text.ts'

interface SizeFlags extends AdminFlags {
  readonly wait: boolean
}

const POLL_INTERVAL_MS = 100

export async function run(
  [name = '', sizeText]: readonly (string | undefined)[],
  options: SizeFlags,
): Promise<number> {
  const size = sizeText === undefined ? undefined : parseInstanceCount(sizeText)
  const admin = new AdminClient(options)
  try {
    const before = await admin.requestJson<NamedCluster>(clusterPath(name))
    if (size === undefined) {
      await writeLine(String(before.size))
      return EXIT.ok.number
    }
    const call = { method: 'PUT', json: { size } } as const
    const after = await admin.requestJson<NamedCluster>(clusterPath(name, '/size'), call)
    // The session keeps the size within the limits of the service.
    const note =
      after.size === size ? '' : ` (${size} is outside ${after.minSize}..${after.maxSize ?? ''})`
    await writeLine(`${after.url}: ${before.size} -> ${after.size}${note}`)
    if (options.wait) await waitForSize(admin, name)
    return EXIT.ok.number
  } finally {
    await admin.close()
  }
}

function parseInstanceCount(text: string): number {
  try {
    return parseWholeNumber(text)
  } catch (error) {
    throw new CliError('usage', `instances: ${describeError(error)}, got ${JSON.stringify(text)}`)
  }
}

/** Resolves when as many instances are ready as the size says, and there are no others. @throws CliError if a start fails */
async function waitForSize(admin: AdminClient, name: string): Promise<void> {
  const progress = createProgressLine()
  try {
    for (;;) {
      const cluster = await admin.requestJson<NamedCluster>(clusterPath(name))
      const ready = countReady(cluster)
      if (ready === cluster.size && cluster.instances.length === ready) return
      if (cluster.failure && ready < cluster.size) {
        throw new CliError(
          'failure',
          `${cluster.url}: ${ready} of ${cluster.size} are ready: ${takeFirstLine(cluster.failure)}`,
        )
      }
      progress.show(
        `${cluster.url}: ${ready} of ${cluster.size} ready, ${cluster.instances.length - ready} others`,
      )
      await sleep(POLL_INTERVAL_MS)
    }
  } finally {
    progress.clear()
  }
}
