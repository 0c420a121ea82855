/**
 * The services of a file, and its providers, for tasks. Its gateway and admin address are not opened, its feed where that
 * is asked for: `manyhost serve` may have them open.
 */
import { applyConfig } from '../../config/apply.ts'
import type { Config } from '../../config/config.ts'
import { describeError } from '../../core/errors.ts'
import type { Session, SessionOptions } from '../../index.ts'
import { CliError } from '../exit.ts'
import { logFeedEvents, toFeedOptions } from '../serve/feed.ts'
import { readFleetFileOrExit } from '../serve/fleet-file.ts'
import { ConfiguredProviders } from '../serve/providers.ts'
import type { TaskEnvironment, TaskEnvironmentFlags } from './task-environment.ts'

interface FleetServices {
  /** What the file says of the session. */
  readonly session: SessionOptions
  /** @throws CliError */
  start(session: Session, say: (text: string) => void): Promise<TaskEnvironment['options']>
}

/** @throws CliError */
export function readFleetServices(file: string, flags: TaskEnvironmentFlags): FleetServices {
  const { config } = readFleetFileOrExit(file)
  const { tickInterval, budget } = config.session
  const feed = flags.feed ? toFeedOptions(config) : undefined
  if (flags.feed && !feed) throw new CliError('config', `${file}: it has no feed`)
  return {
    session: { tickInterval, ...(budget && { budget }), ...(feed && { feed }) },
    start: async (session, say) => {
      await listenFeed(session, say)
      return startServices(session, config, flags)
    },
  }
}

/** @throws CliError */
async function listenFeed({ feed }: Session, say: (text: string) => void): Promise<void> {
  if (!feed) return
  logFeedEvents(feed, { warn: (_, text) => say(text), error: say })
  try {
    say(`the feed is at ${(await feed.listen()).join(', ')}`)
  } catch (error) {
    throw new CliError('listen', describeError(error), { cause: error })
  }
}

async function startServices(
  session: Session,
  config: Config,
  { fleet, provider, sshGroup }: TaskEnvironmentFlags,
): Promise<TaskEnvironment['options']> {
  const shop = new ConfiguredProviders(session.metrics)
  const name = provider ?? sshGroup
  const found = name === undefined ? undefined : config.providers[name]
  if (name !== undefined && !found) {
    const known = Object.keys(config.providers).join(', ') || 'none'
    throw new CliError('config', `${fleet}: there is no provider ${name}; it has ${known}`)
  }
  if (sshGroup !== undefined && found?.type !== 'ssh') {
    throw new CliError(
      'config',
      `${fleet}: ${sshGroup} is a provider of type ${found?.type}, not ssh`,
    )
  }
  const { failed } = await applyConfig(session, undefined, config, shop.toServiceOptions)
  if (failed[0]) {
    const problems = failed.map(({ error }) => `${fleet}: ${error.message}`)
    throw new CliError('config', problems.join('\n'))
  }
  if (!found) return {}
  const { hosts } = found.options as { hosts?: readonly unknown[] }
  return {
    provider: shop.findOrCreate(found.name, config),
    ...(found.type === 'ssh' && hosts && { runners: hosts.length }),
  }
}
