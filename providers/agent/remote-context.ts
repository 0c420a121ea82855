/** The context of a startup function whose instance is on an agent's machine: the function runs here and acts there. */
import { cp, stat } from 'node:fs/promises'
import { basename, join, posix, resolve } from 'node:path'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import type { StartupContext } from '../../src/core/provider.ts'
import { code } from '../../src/wire/index.ts'
import type { AgentConnection } from './agent-connection.ts'
import type { FileTransfers } from './file-transfers.ts'
import { parseText } from './parse-message.ts'
import { toStartError } from './start-error.ts'

/** Longest piece of a command's output in one packet, in characters. */
const MAX_PACKET_LENGTH = 1_048_576

/** What the context needs of the instance. */
export interface RemoteContextOwner {
  readonly id: string
  readonly service: string
  /** The last that the instance has written. */
  readonly output: string
  /** Aborted when the instance ends. */
  readonly signal: AbortSignal
  readonly connection: AgentConnection
  addOutput(text: string): void
}

export function createRemoteContext(
  instance: RemoteContextOwner,
  transfers: FileTransfers,
  initialEnv: Record<string, string>,
): StartupContext {
  const { id, connection, signal } = instance
  const env = { ...initialEnv }
  /** Only what the function has changed: the environment of the agent's machine need not travel back. */
  const changedEnv = (): Record<string, string | null> => listEnvChanges(initialEnv, env)
  const toError = (error: unknown, what: string): ManyhostError =>
    toStartError(error, what, instance.output, instance.service)

  return {
    env,
    signal,
    log: (line) => instance.addOutput(`${line}\n`),
    async run(command, ...args) {
      signal.throwIfAborted()
      let stdout = ''
      try {
        await connection.po.co(
          async (co) => {
            await co.sendCode(code`run(${id}, ${changedEnv()}, ${command}, ${args})`)
            await co.startRecv()
            for await (const piece of co) stdout += parseText(piece, MAX_PACKET_LENGTH)
            await co.waitCompleted()
          },
          { signal },
        )
        return stdout
      } catch (error) {
        signal.throwIfAborted()
        throw toError(error, `'${command}' was not run`)
      }
    },
    async spawn(command, ...args) {
      signal.throwIfAborted()
      try {
        const text = code`spawn(${id}, ${changedEnv()}, ${command}, ${args})`
        await connection.po.request(text, { signal })
      } catch (error) {
        signal.throwIfAborted()
        throw toError(error, `'${command}' was not started`)
      }
    },
    async upload(local, remote) {
      try {
        const source = resolve(local)
        await stat(source)
        await transfers.sendFiles(connection, source, signal, (token) =>
          connection.po.request(code`upload(${id}, ${token}, ${basename(source)}, ${remote})`, {
            signal,
          }),
        )
      } catch (cause) {
        throw createCopyError('upload', local, remote, cause)
      }
    },
    async download(remote, local) {
      try {
        const tree = await transfers.receiveFiles(connection, (token) =>
          connection.po.request(code`download(${id}, ${token}, ${remote})`, { signal }),
        )
        try {
          const target = await resolveDownloadTarget(tree.rootPath, local, posix.basename(remote))
          await cp(tree.rootPath, target, { recursive: true, verbatimSymlinks: true })
        } finally {
          await tree.remove()
        }
      } catch (cause) {
        throw createCopyError('download', remote, local, cause)
      }
    },
  }
}

/** Variables whose value has changed; null for those that were removed. */
function listEnvChanges(
  initial: Readonly<Record<string, string>>,
  env: Readonly<Record<string, string>>,
): Record<string, string | null> {
  const names = new Set([...Object.keys(initial), ...Object.keys(env)])
  const entries = [...names].map((name) => [name, env[name] ?? null] as const)
  return Object.fromEntries(entries.filter(([name, value]) => value !== initial[name]))
}

/** As the command `cp` does it: a file that is copied to a folder goes into that folder. */
async function resolveDownloadTarget(source: string, local: string, name: string): Promise<string> {
  const target = resolve(local)
  if ((await stat(source)).isDirectory()) return target
  const isFolder = (await stat(target).catch(() => undefined))?.isDirectory()
  return local.endsWith('/') || isFolder ? join(target, name) : target
}

function createCopyError(verb: string, from: string, to: string, cause: unknown): ManyhostError {
  const why = describeError(cause)
  // The agent's own provider may have said all of it already.
  const isComplete = why.startsWith(`cannot ${verb} '`)
  return new ManyhostError(
    'MANYHOST_START_FAILED',
    isComplete ? why : `cannot ${verb} '${from}' to '${to}': ${why}`,
    { cause },
  )
}
