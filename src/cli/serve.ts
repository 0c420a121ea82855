/** `manyhost serve`: the composition root. It makes a session, its gateways and its admin address of a fleet file. */
import { applyConfig } from '../config/apply.ts'
import { version } from '../core/version.ts'
import { Session } from '../index.ts'
import { chosenContainmentKind } from '../posix/containment-method.ts'
import { CliError } from './exit.ts'
import { listAddresses } from './serve/addresses.ts'
import { logFeedEvents, toFeedOptions } from './serve/feed.ts'
import { DEFAULT_FLEET_FILE, type FleetFile, readFleetFileOrExit } from './serve/fleet-file.ts'
import { collectSecrets } from './serve/gateway-options.ts'
import { openServeLog, type ServeLog, type ServeLogFormat } from './serve/log.ts'
import { type OpenServers, openServers } from './serve/open-servers.ts'
import { ConfiguredProviders } from './serve/providers.ts'
import { Reloader } from './serve/reload.ts'
import { logSessionEvents } from './serve/session-log.ts'
import { stopOnSignals } from './serve/stop.ts'
import { warnOfUnprotectedServices } from './serve/unprotected-services.ts'
import { formatCount } from './text.ts'

interface ServeFlags {
  readonly watch?: boolean
  readonly log?: ServeLogFormat
}

export async function run(
  [file = DEFAULT_FLEET_FILE]: readonly (string | undefined)[],
  options: ServeFlags,
): Promise<number> {
  const env = { ...process.env }
  // The instances inherit this environment, and must not have the token of the admin address.
  delete process.env.MANYHOST_TOKEN
  const fleet = readFleetFileOrExit(file, env)
  const log = openServeLog({
    format: chooseLogFormat(options, fleet),
    level: fleet.config.log.level,
  })
  log.setSecrets(collectSecrets(fleet.config))
  const session = openSession(fleet)
  const providers = new ConfiguredProviders(session.metrics, log.logger)
  logSessionEvents(session, log.logger)
  logContainment(session, log)
  logFeedEvents(session.feed, log.logger)
  const servers = await openServers(session, fleet)
  warnOfUnprotectedServices(fleet.config, log.logger)
  const { succeeded, failed, running } = await applyConfig(
    session,
    undefined,
    fleet.config,
    providers.toServiceOptions,
  )
  if (failed[0]) {
    await Promise.all([servers.close(), session.close({ force: true })])
    throw new CliError('config', failed.map(({ error }) => `${file}: ${error.message}`).join('\n'))
  }
  const served = {
    file,
    env,
    session,
    gateways: servers.gateways,
    toService: providers.toServiceOptions,
    log,
  }
  const reloader = new Reloader(served, fleet, running)
  process.on('SIGHUP', () => void reloader.reload())
  if (options.watch) reloader.watch()
  logAddresses(
    log,
    file,
    servers,
    succeeded.map(({ url }) => url),
    session.feed?.urls,
  )
  return stopOnSignals({ session, servers, reloader, log })
}

function chooseLogFormat({ log }: ServeFlags, { config }: FleetFile): ServeLogFormat {
  const { format } = config.log
  return log ?? (format === 'auto' ? (process.stdout.isTTY ? 'pretty' : 'json') : format)
}

/** The session has no provider of its own, because each service gets one. */
function openSession({ config }: FleetFile): Session {
  const { tickInterval, budget } = config.session
  const feed = toFeedOptions(config)
  return new Session({ tickInterval, ...(budget && { budget }), ...(feed && { feed }) })
}

/** Logs how processes are contained. That is known only when the first process was started. */
function logContainment(session: Session, log: ServeLog): void {
  const off = session.on('instance', () => {
    const means = chosenContainmentKind()
    if (!means) return
    off()
    if (log.format !== 'quiet') {
      log.logger.info({ means }, `processes are contained by ${means}`)
    }
  })
}

function logAddresses(
  log: ServeLog,
  file: string,
  servers: OpenServers,
  services: readonly string[],
  feedUrls: readonly string[] = [],
): void {
  const gateways = servers.gateways.map(({ url }) => url)
  const [admin] = servers.admin.urls
  const addresses = listAddresses(gateways, admin, services, feedUrls)
  const text = `serving ${file}: ${formatCount(services.length, 'service')}`
  if (log.format === 'quiet') return
  log.logger.info({ ...addresses, services, version: version() }, text)
  if (log.format !== 'pretty') return
  for (const [name, url] of Object.entries(addresses))
    process.stdout.write(`  ${name.padEnd(10)} ${url}\n`)
  process.stdout.write('  Ctrl-C drains and ends; SIGHUP applies the file again\n')
}
