/** Chooses where tasks run: beside the services of a file, on machines by ssh, on what a launcher starts, or here. */
import { describeError } from '../../core/errors.ts'
import { Session } from '../../index.ts'
import { CliError } from '../exit.ts'
import type { ReportLine, TaskEnvironment, TaskEnvironmentFlags } from './task-environment.ts'

/** @throws CliError */
export async function openTaskEnvironment(
  flags: TaskEnvironmentFlags,
  report: ReportLine,
): Promise<TaskEnvironment> {
  const named = flags.provider ?? flags.sshGroup
  const ways = [named, flags.ssh, flags.launcher ?? (flags.mpi || undefined)]
  if (ways.filter((one) => one !== undefined).length > 1) {
    throw new CliError('usage', 'say one of --ssh, --ssh-group, --provider, --launcher, --mpi')
  }
  if (named !== undefined && flags.fleet === undefined) {
    throw new CliError('usage', '--provider and --ssh-group want the file that has it: --fleet')
  }
  if (flags.feed && flags.fleet === undefined) {
    throw new CliError('usage', '--feed wants the file that has it: --fleet')
  }
  const isLaunched = ways[2] !== undefined
  const { options: ssh = {}, failed: hopeless } = flags.ssh
    ? (await import('./ssh.ts')).openSshProvider(flags.ssh, flags)
    : {}
  if (flags.fleet === undefined && !isLaunched) {
    return { options: ssh, ...(hopeless && { failed: hopeless }), close: async () => {} }
  }
  // Each is loaded only when it is asked for: most batches need none of all the providers.
  const fleet =
    flags.fleet === undefined
      ? undefined
      : (await import('./fleet-services.ts')).readFleetServices(flags.fleet, flags)
  const session = new Session(fleet?.session)
  session.on('error', (error) => report(describeError(error)))
  try {
    const own = fleet ? await fleet.start(session, report) : {}
    const { failed = hopeless, options = {} } = isLaunched
      ? await (await import('./launch.ts')).launchAgents(flags, session, report)
      : {}
    const all = { session, ...own, ...ssh, ...options }
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
