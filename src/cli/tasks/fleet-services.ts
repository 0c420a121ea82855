/**
 * Starts the services and providers of a fleet file for tasks. The gateway and the admin address of the file are not opened,
 * because `manyhost serve` may have opened them. The feed is opened with `--feed`.
 */
import { applyConfig } from '../../config/apply.ts'
import type { Config } from '../../config/config.ts'
import { describeError } from '../../core/errors.ts'
import type { Session, SessionOptions } from '../../index.ts'
import { CliError } from '../exit.ts'
import { logFeedEvents, toFeedOptions } from '../serve/feed.ts'
import { readFleetFileOrExit } from '../serve/fleet-file.ts'
import { ConfiguredProviders } from '../serve/providers.ts'
import type { ReportLine, TaskEnvironment, TaskEnvironmentFlags } from './task-environment.ts'

interface FleetServices {
  /** The options of the session that the file sets. */
  readonly session: SessionOptions
  /** @throws CliError */
  start(session: Session, report: ReportLine): Promise<TaskEnvironment['options']>
}

/** @throws CliError */
export function readFleetServices(file: string, flags: TaskEnvironmentFlags): FleetServices {
  const { config } = readFleetFileOrExit(file)
  const { tickInterval, budget } = config.session
  const feed = flags.feed ? toFeedOptions(config) : undefined
  if (flags.feed && !feed)
    throw new CliError('config', `${file}: the file has no feed, which --feed would open`)
  return {
    session: { tickInterval, ...(budget && { budget }), ...(feed && { feed }) },
    start: async (session, report) => {
      await listenFeed(session, report)
      return startServices(session, config, flags)
    },
  }
}

/** @throws CliError */
async function listenFeed({ feed }: Session, report: ReportLine): Promise<void> {
  if (!feed) return
  logFeedEvents(feed, { warn: (_, text) => report(text), error: report })
  try {
    report(`the feed listens at ${(await feed.listen()).join(', ')}`)
  } catch (error) {
    throw new CliError('listen', describeError(error), { cause: error })
  }
}

async function startServices(
  session: Session,
  config: Config,
  { fleet, provider, sshGroup }: TaskEnvironmentFlags,
): Promise<TaskEnvironment['options']> {
  const providers = new ConfiguredProviders(session.metrics)
  const name = provider ?? sshGroup
  const found = name === undefined ? undefined : config.providers[name]
  if (name !== undefined && !found) {
    const known = Object.keys(config.providers).join(', ') || 'none'
    throw new CliError('config', `${fleet}: there is no provider ${name}; the file has ${known}`)
  }
  if (sshGroup !== undefined && found?.type !== 'ssh') {
    throw new CliError(
      'config',
      `${fleet}: ${sshGroup} is a provider of type ${found?.type}, not ssh`,
    )
  }
  const { failed } = await applyConfig(session, undefined, config, providers.toServiceOptions)
  if (failed[0]) {
    const problems = failed.map(({ error }) => `${fleet}: ${error.message}`)
    throw new CliError('config', problems.join('\n'))
  }
  if (!found) return {}
  const { hosts } = found.options as { hosts?: readonly unknown[] }
  return {
    provider: providers.findOrCreate(found.name, config),
    ...(found.type === 'ssh' && hosts && { runners: hosts.length }),
  }
}
