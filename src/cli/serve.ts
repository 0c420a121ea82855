/** `manyhost serve`: the composition root. A file becomes a session, its gateway and its admin address. */
import { applyConfig } from '../config/apply.ts'
import { ManyhostError } from '../core/errors.ts'
import { version } from '../core/version.ts'
import { type AdminServer, openAdmin } from '../gateway/admin/server.ts'
import { createGateway, type Gateway } from '../gateway/index.ts'
import { Session } from '../index.ts'
import { knownMeans } from '../posix/means.ts'
import { CliError } from './exit.ts'
import { adminParts, secretsOf } from './serve/doors.ts'
import { feedMount, feedOptions, observeFeed } from './serve/feed.ts'
import { DEFAULT_FILE, type Fleet, mustReadFleet } from './serve/fleet.ts'
import { type How, type Log, openLog } from './serve/log.ts'
import { observe } from './serve/observe.ts'
import { ProviderShop } from './serve/providers.ts'
import { Reloader } from './serve/reload.ts'
import { stopOnSignals } from './serve/stop.ts'
import { where } from './serve/where.ts'

interface ServeOptions {
  readonly watch?: boolean
  readonly log?: How
}

export async function run(
  [file = DEFAULT_FILE]: readonly (string | undefined)[],
  options: ServeOptions,
): Promise<number> {
  const env = { ...process.env }
  // Instances inherit our environment, and have no business with the token of the admin address.
  delete process.env.MANYHOST_TOKEN
  const fleet = mustReadFleet(file, env)
  const log = openLog({ how: howToLog(options, fleet), level: fleet.config.log.level })
  log.hide(secretsOf(fleet.config))
  const session = openSession(fleet)
  const shop = new ProviderShop(session.metrics, log.logger)
  observe(session, log.logger)
  tellMeans(session, log)
  observeFeed(session.feed, log.logger)
  const doors = await openDoors(session, fleet)
  const { done, failed, running } = await applyConfig(
    session,
    undefined,
    fleet.config,
    shop.toService,
  )
  if (failed[0]) {
    await Promise.all([doors.close(), session.close({ force: true })])
    throw new CliError('config', failed.map(({ error }) => `${file}: ${error.message}`).join('\n'))
  }
  const served = { file, env, session, gateways: doors.gateways, toService: shop.toService, log }
  const reloader = new Reloader(served, fleet, running)
  process.on('SIGHUP', () => void reloader.reload())
  if (options.watch) reloader.watch()
  announce(
    log,
    file,
    doors,
    done.map(({ url }) => url),
    session.feed?.urls,
  )
  return stopOnSignals({ session, doors, reloader, log })
}

function howToLog({ log }: ServeOptions, { config }: Fleet): How {
  const { format } = config.log
  return log ?? (format === 'auto' ? (process.stdout.isTTY ? 'pretty' : 'json') : format)
}

/** Without a provider of its own: each service is given one. */
function openSession({ config }: Fleet): Session {
  const { tickInterval, budget } = config.session
  const feed = feedOptions(config)
  return new Session({ tickInterval, ...(budget && { budget }), ...(feed && { feed }) })
}

export interface Doors {
  readonly gateways: readonly Gateway[]
  readonly admin: AdminServer
  /** No new request: not ready any more. */
  closing: boolean
  close(): Promise<void>
}

/** All addresses, or none. @throws CliError */
async function openDoors(session: Session, { config, gateways }: Fleet): Promise<Doors> {
  const opened: Gateway[] = []
  const doors = { closing: false }
  try {
    for (const options of gateways) opened.push(await createGateway(session, options))
    await session.feed?.listen()
    const admin = await openAdmin(session, {
      ...adminParts(config),
      mounts: feedMount(session.feed, config),
      isReady: () => !doors.closing,
    })
    const close = async (): Promise<void> => {
      await Promise.all(opened.map((gateway) => gateway.close()))
      await admin.close()
    }
    return Object.assign(doors, { gateways: opened, admin, close })
  } catch (error) {
    await Promise.all(opened.map((gateway) => gateway.close()))
    await session.close({ force: true })
    if (!(error instanceof ManyhostError)) throw error
    throw new CliError('listen', error.message, { cause: error })
  }
}

/** It is known once a first process was started. */
function tellMeans(session: Session, log: Log): void {
  const off = session.on('instance', () => {
    const means = knownMeans()
    if (!means) return
    off()
    if (log.how !== 'quiet') {
      log.logger.info({ means }, `processes are held together by ${means}`)
    }
  })
}

function announce(
  log: Log,
  file: string,
  doors: Doors,
  services: readonly string[],
  feedUrls: readonly string[] = [],
): void {
  const gateways = doors.gateways.map(({ url }) => url)
  const [admin] = doors.admin.urls
  const places = where(gateways, admin, services, feedUrls)
  const text = `serving ${file}: ${services.length} ${services.length === 1 ? 'service' : 'services'}`
  if (log.how === 'quiet') return
  log.logger.info({ ...places, services, version: version() }, text)
  if (log.how !== 'pretty') return
  for (const [name, url] of Object.entries(places))
    process.stdout.write(`  ${name.padEnd(10)} ${url}\n`)
  process.stdout.write('  Ctrl-C drains and ends, SIGHUP applies the file again\n')
}
