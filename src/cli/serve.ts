/** `manyhost serve`: the composition root. A file becomes a session, its gateway and its admin address. */
import { applyConfig } from '../config/apply.ts'
import { ManyhostError } from '../core/errors.ts'
import { version } from '../core/version.ts'
import { type AdminServer, openAdminServer } from '../gateway/admin/server.ts'
import { createGateway, type Gateway } from '../gateway/index.ts'
import { Session } from '../index.ts'
import { chosenContainmentKind } from '../posix/containment-method.ts'
import { CliError } from './exit.ts'
import { listAddresses } from './serve/addresses.ts'
import { createFeedMount, logFeedEvents, toFeedOptions } from './serve/feed.ts'
import { DEFAULT_FLEET_FILE, type FleetFile, readFleetFileOrExit } from './serve/fleet-file.ts'
import { collectSecrets, toAdminSettings } from './serve/gateway-options.ts'
import { openServeLog, type ServeLog, type ServeLogFormat } from './serve/log.ts'
import { ConfiguredProviders } from './serve/providers.ts'
import { Reloader } from './serve/reload.ts'
import { logSessionEvents } from './serve/session-log.ts'
import { stopOnSignals } from './serve/stop.ts'
import { warnOfUnprotectedServices } from './serve/unprotected-services.ts'

interface ServeFlags {
  readonly watch?: boolean
  readonly log?: ServeLogFormat
}

export async function run(
  [file = DEFAULT_FLEET_FILE]: readonly (string | undefined)[],
  options: ServeFlags,
): Promise<number> {
  const env = { ...process.env }
  // Instances inherit our environment, and have no business with the token of the admin address.
  delete process.env.MANYHOST_TOKEN
  const fleet = readFleetFileOrExit(file, env)
  const log = openServeLog({
    format: chooseLogFormat(options, fleet),
    level: fleet.config.log.level,
  })
  log.setSecrets(collectSecrets(fleet.config))
  const session = openSession(fleet)
  const shop = new ConfiguredProviders(session.metrics, log.logger)
  logSessionEvents(session, log.logger)
  logContainment(session, log)
  logFeedEvents(session.feed, log.logger)
  const doors = await openServers(session, fleet)
  warnOfUnprotectedServices(fleet.config, log.logger)
  const {
    succeeded: done,
    failed,
    running,
  } = await applyConfig(session, undefined, fleet.config, shop.toServiceOptions)
  if (failed[0]) {
    await Promise.all([doors.close(), session.close({ force: true })])
    throw new CliError('config', failed.map(({ error }) => `${file}: ${error.message}`).join('\n'))
  }
  const served = {
    file,
    env,
    session,
    gateways: doors.gateways,
    toService: shop.toServiceOptions,
    log,
  }
  const reloader = new Reloader(served, fleet, running)
  process.on('SIGHUP', () => void reloader.reload())
  if (options.watch) reloader.watch()
  logAddresses(
    log,
    file,
    doors,
    done.map(({ url }) => url),
    session.feed?.urls,
  )
  return stopOnSignals({ session, doors, reloader, log })
}

function chooseLogFormat({ log }: ServeFlags, { config }: FleetFile): ServeLogFormat {
  const { format } = config.log
  return log ?? (format === 'auto' ? (process.stdout.isTTY ? 'pretty' : 'json') : format)
}

/** Without a provider of its own: each service is given one. */
function openSession({ config }: FleetFile): Session {
  const { tickInterval, budget } = config.session
  const feed = toFeedOptions(config)
  return new Session({ tickInterval, ...(budget && { budget }), ...(feed && { feed }) })
}

export interface OpenServers {
  readonly gateways: readonly Gateway[]
  readonly admin: AdminServer
  /** No new request: not ready any more. */
  closing: boolean
  close(): Promise<void>
}

/** All addresses, or none. @throws CliError */
async function openServers(
  session: Session,
  { config, gateways }: FleetFile,
): Promise<OpenServers> {
  const opened: Gateway[] = []
  const doors = { closing: false }
  try {
    for (const options of gateways) opened.push(await createGateway(session, options))
    await session.feed?.listen()
    const admin = await openAdminServer(session, {
      ...toAdminSettings(config),
      mounts: createFeedMount(session.feed, config),
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
function logContainment(session: Session, log: ServeLog): void {
  const off = session.on('instance', () => {
    const means = chosenContainmentKind()
    if (!means) return
    off()
    if (log.format !== 'quiet') {
      log.logger.info({ means }, `processes are held together by ${means}`)
    }
  })
}

function logAddresses(
  log: ServeLog,
  file: string,
  doors: OpenServers,
  services: readonly string[],
  feedUrls: readonly string[] = [],
): void {
  const gateways = doors.gateways.map(({ url }) => url)
  const [admin] = doors.admin.urls
  const places = listAddresses(gateways, admin, services, feedUrls)
  const text = `serving ${file}: ${services.length} ${services.length === 1 ? 'service' : 'services'}`
  if (log.format === 'quiet') return
  log.logger.info({ ...places, services, version: version() }, text)
  if (log.format !== 'pretty') return
  for (const [name, url] of Object.entries(places))
    process.stdout.write(`  ${name.padEnd(10)} ${url}\n`)
  process.stdout.write('  Ctrl-C drains and ends, SIGHUP applies the file again\n')
}
