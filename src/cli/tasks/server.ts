/** `manyhost tasks server`: runs what is handed in over HTTP, or into its store. */
import { CliError } from '../exit.ts'
import { write } from '../terminal.ts'
import type { ServingFlags } from './asked.ts'
import { checkTags, serve, sourceOf } from './cluster.ts'
import { ownToken, type RemoteFlags } from './remote.ts'

interface ServerFlags extends ServingFlags, RemoteFlags {
  readonly host?: string
  readonly port?: number
  readonly untilDone?: boolean
}

/** The ancestor's. */
const PORT = 50_001

export async function run(
  [file]: readonly (string | undefined)[],
  flags: ServerFlags,
): Promise<number> {
  const { host = '127.0.0.1', port = PORT, untilDone = false, restart = false } = flags
  if (flags.bind !== undefined && flags.launcher === undefined && !flags.mpi) {
    throw new CliError(
      'usage',
      '--bind is where what --launcher starts dials in; a server listens at -H ADDRESS -p PORT',
    )
  }
  const listen = {
    host,
    port,
    token: ownToken(flags),
    ...(flags.tlsCert !== undefined && { certFile: flags.tlsCert }),
    ...(flags.tlsKey !== undefined && { certKeyFile: flags.tlsKey }),
    ...(flags.insecure && { insecure: true }),
  }
  checkTags(file, flags)
  const source = file === undefined ? undefined : sourceOf(file, true)
  const more = {
    forever: !(untilDone || restart),
    listen,
    restart: restart && source === undefined,
  }
  return serve(source, flags, more, file, async ({ url }) =>
    write(`manyhost: tasks are taken at ${url}\n`, process.stderr),
  )
}
