/** `manyhost size`: how many instances a service has, and shall have. */
import { sleep } from '../core/time.ts'
import { Admin, type AdminOptions, clusterPath } from './admin.ts'
import { CliError, EXIT } from './exit.ts'
import { progress } from './progress.ts'
import { type NamedCluster, readyOf } from './status.ts'
import { line } from './terminal.ts'

interface SizeOptions extends AdminOptions {
  readonly wait: boolean
}

const POLL = 100

export async function run(
  [name = '', wanted]: readonly (string | undefined)[],
  options: SizeOptions,
): Promise<number> {
  const size = wanted === undefined ? undefined : wholeNumber(wanted)
  const admin = new Admin(options)
  try {
    const before = await admin.json<NamedCluster>(clusterPath(name))
    if (size === undefined) {
      await line(String(before.size))
      return EXIT.ok.number
    }
    const call = { method: 'PUT', json: { size } } as const
    const after = await admin.json<NamedCluster>(clusterPath(name, '/size'), call)
    // Held within the service's own limits.
    const held =
      after.size === size ? '' : ` (${size} is outside ${after.minSize}..${after.maxSize ?? ''})`
    await line(`${after.url}: ${before.size} -> ${after.size}${held}`)
    if (options.wait) await settled(admin, name)
    return EXIT.ok.number
  } finally {
    await admin.close()
  }
}

function wholeNumber(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw new CliError(
    'usage',
    `instances: expected a whole number from 0 up, got ${JSON.stringify(text)}`,
  )
}

/** Until there are as many ready ones as are wanted, and no others. */
async function settled(admin: Admin, name: string): Promise<void> {
  const shown = progress()
  try {
    for (;;) {
      const cluster = await admin.json<NamedCluster>(clusterPath(name))
      const ready = readyOf(cluster)
      if (ready === cluster.size && cluster.instances.length === ready) return
      if (cluster.failure && ready < cluster.size) {
        throw new CliError(
          'failure',
          `${cluster.url}: ${ready} of ${cluster.size} are ready: ${cluster.failure.split('\n', 1)[0]}`,
        )
      }
      shown.say(
        `${cluster.url}: ${ready} of ${cluster.size} ready, ${cluster.instances.length - ready} others`,
      )
      await sleep(POLL)
    }
  } finally {
    shown.end()
  }
}
