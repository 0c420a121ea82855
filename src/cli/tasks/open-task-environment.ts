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
  const providerName = flags.provider ?? flags.sshGroup
  const isLaunched = flags.launcher !== undefined || flags.mpi === true
  const choices = [providerName !== undefined, flags.ssh !== undefined, isLaunched]
  if (choices.filter(Boolean).length > 1) {
    throw new CliError('usage', 'give one of --ssh, --ssh-group, --provider, --launcher, --mpi')
  }
  if (providerName !== undefined && flags.fleet === undefined) {
    throw new CliError('usage', '--provider and --ssh-group need a fleet file: give --fleet')
  }
  if (flags.feed && flags.fleet === undefined) {
    throw new CliError('usage', '--feed needs a fleet file: give --fleet')
  }
  const { options: ssh = {}, failed: sshFailed } = flags.ssh
    ? (await import('./ssh.ts')).openSshProvider(flags.ssh, flags)
    : {}
  if (flags.fleet === undefined && !isLaunched) {
    return { options: ssh, ...(sshFailed && { failed: sshFailed }), close: async () => {} }
  }
  // Each module is loaded only when it is needed: most batches need none of the providers.
  const fleet =
    flags.fleet === undefined
      ? undefined
      : (await import('./fleet-services.ts')).readFleetServices(flags.fleet, flags)
  const session = new Session(fleet?.session)
  session.on('error', (error) => report(describeError(error)))
  try {
    const ofFleet = fleet ? await fleet.start(session, report) : {}
    const { failed = sshFailed, options = {} } = isLaunched
      ? await (await import('./launch.ts')).launchAgents(flags, session, report)
      : {}
    const all = { session, ...ofFleet, ...ssh, ...options }
    return {
      options: all,
      ...(failed && { failed }),
      async close() {
        await session.close({ timeout: 5_000 })
        // The session closes only the providers that it used, so one that no task needed is closed here.
        await all.provider?.close?.()
      },
    }
  } catch (error) {
    await session.close({ force: true })
    throw error
  }
}
