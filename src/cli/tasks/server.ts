/** `manyhost tasks server`: runs what is handed in over HTTP, or into its store. */
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

/** The ancestor's. */
const DEFAULT_PORT = 50_001

export async function run(
  [file]: readonly (string | undefined)[],
  flags: ServerFlags,
): Promise<number> {
  const { host = '127.0.0.1', port = DEFAULT_PORT, untilDone = false, restart = false } = flags
  if (flags.bind !== undefined && flags.launcher === undefined && !flags.mpi) {
    throw new CliError(
      'usage',
      '--bind is where what --launcher starts dials in; a server listens at -H ADDRESS -p PORT',
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
  const more = {
    forever: !(untilDone || restart),
    listen,
    restart: restart && source === undefined,
  }
  return serveTasks(source, flags, more, file, async ({ url }) =>
    write(`manyhost: tasks are taken at ${url}\n`, process.stderr),
  )
}
