/** Where tasks run: beside services of a file, on machines by ssh, on what a launcher starts; else on this machine. */
import { applyConfig } from '../../config/apply.ts'
import type { Config } from '../../config/config.ts'
import { describe } from '../../errors.ts'
import { Session } from '../../index.ts'
import type { Provider } from '../../provider.ts'
import { CliError } from '../exit.ts'
import { mustReadFleet } from '../serve/fleet.ts'
import { ProviderShop } from '../serve/providers.ts'
import { launch } from './launch.ts'
import { bySsh, type SshFlags } from './ssh.ts'

export interface GroundFlags extends SshFlags {
  readonly fleet?: string
  readonly provider?: string
  readonly sshGroup?: string
  readonly launcher?: string
  readonly mpi?: boolean
  readonly bind?: string
  readonly insecure?: boolean
  readonly tlsCert?: string
  readonly tlsKey?: string
  readonly initSize?: number
  readonly autoscaling?: string | true
}

/** Part of the options of `runCluster`, and the end of what it stands on. */
export interface Ground {
  readonly options: {
    readonly session?: Session
    readonly provider?: Provider
    readonly runners?: number
    readonly runner?: readonly string[]
  }
  /** Rejects when nothing is left that could run a task. */
  readonly failed?: Promise<never>
  close(): Promise<void>
}

type Say = (text: string) => void

const NO_GROUND: Ground = { options: {}, close: async () => {} }

/** @throws CliError */
export async function openGround(flags: GroundFlags, say: Say): Promise<Ground> {
  const named = flags.provider ?? flags.sshGroup
  const ways = [named, flags.ssh, flags.launcher ?? (flags.mpi || undefined)]
  if (ways.filter((one) => one !== undefined).length > 1) {
    throw new CliError('usage', 'say one of --ssh, --ssh-group, --provider, --launcher, --mpi')
  }
  if (named !== undefined && flags.fleet === undefined) {
    throw new CliError('usage', '--provider and --ssh-group want the file that has it: --fleet')
  }
  if (flags.ssh) return { ...NO_GROUND, options: bySsh(flags.ssh, flags) }
  const fleet = flags.fleet === undefined ? undefined : mustReadFleet(flags.fleet)
  const launched = ways[2] !== undefined
  if (!fleet && !launched) return NO_GROUND
  const session = sessionOf(fleet?.config, say)
  try {
    const own = fleet ? await services(session, fleet.config, flags) : {}
    const { failed, options = {} } = launched ? await launch(flags, session, say) : {}
    const all = { session, ...own, ...options }
    return {
      options: all,
      ...(failed && { failed }),
      async close() {
        await session.close({ timeout: 5_000 })
        // One that no task needed is none of the session's.
        await all.provider?.close?.()
      },
    }
  } catch (error) {
    await session.close({ force: true })
    throw error
  }
}

function sessionOf(config: Config | undefined, say: Say): Session {
  const { tickInterval, budget } = config?.session ?? {}
  const session = new Session({
    ...(tickInterval !== undefined && { tickInterval }),
    ...(budget && { budget }),
  })
  session.on('error', (error) => say(describe(error)))
  return session
}

/** Starts the services of a file; its gateway, admin address and feed are not opened. */
async function services(
  session: Session,
  config: Config,
  { fleet, provider, sshGroup }: GroundFlags,
): Promise<Ground['options']> {
  const shop = new ProviderShop(session.metrics)
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
  const { failed } = await applyConfig(session, undefined, config, shop.toService)
  if (failed[0]) {
    const problems = failed.map(({ error }) => `${fleet}: ${error.message}`)
    throw new CliError('config', problems.join('\n'))
  }
  if (!found) return {}
  const { hosts } = found.options as { hosts?: readonly unknown[] }
  return {
    provider: shop.named(found.name, config),
    ...(found.type === 'ssh' && hosts && { runners: hosts.length }),
  }
}
