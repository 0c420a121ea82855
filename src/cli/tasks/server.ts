/** `manyhost tasks server`: runs tasks that are submitted over HTTP or into its store. */
import { CliError } from '../exit.ts'
import { write } from '../terminal.ts'
import { openTaskSource, refuseFileAsTag, serveTasks } from './cluster.ts'
import type { TaskServingFlags } from './run-options.ts'
import { readOrCreateToken, type TaskServerFlags } from './task-server.ts'

interface ServerFlags extends TaskServingFlags, TaskServerFlags {
  readonly host?: string
  readonly port?: number
  readonly untilDone?: boolean
}

/** The port of HyperShell's server. */
const DEFAULT_PORT = 50_001

export async function run(
  [file]: readonly (string | undefined)[],
  flags: ServerFlags,
): Promise<number> {
  const { host = '127.0.0.1', port = DEFAULT_PORT, untilDone = false, restart = false } = flags
  if (flags.bind !== undefined && flags.launcher === undefined && !flags.mpi) {
    throw new CliError(
      'usage',
      '--bind is for agents that --launcher starts; a server listens on -H ADDRESS -p PORT',
    )
  }
  const listen = {
    host,
    port,
    token: readOrCreateToken(flags),
    ...(flags.tlsCert !== undefined && { certFile: flags.tlsCert }),
    ...(flags.tlsKey !== undefined && { certKeyFile: flags.tlsKey }),
    ...(flags.insecure && { insecure: true }),
  }
  refuseFileAsTag(file, flags)
  const source = file === undefined ? undefined : openTaskSource(file, true)
  const overrides = {
    forever: !(untilDone || restart),
    listen,
    restart: restart && source === undefined,
  }
  return serveTasks(source, flags, overrides, file, async ({ url }) =>
    write(`manyhost: tasks can be submitted at ${url}\n`, process.stderr),
  )
}
