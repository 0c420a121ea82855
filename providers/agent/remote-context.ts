/** What a startup function is given here while it acts on an agent's machine. */
import { cp, stat } from 'node:fs/promises'
import { basename, join, posix, resolve } from 'node:path'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import type { StartupContext } from '../../src/core/provider.ts'
import { code } from '../../src/wire/index.ts'
import { AgentConnection } from './agent-connection.ts'
import type { FileTransfers } from './file-transfers.ts'
import { parseText } from './parse-message.ts'
import type { RemoteInstance } from './remote-instance.ts'

export function createRemoteContext(
  instance: RemoteInstance,
  transfers: FileTransfers,
  initialEnv: Record<string, string>,
): StartupContext {
  const { id, connection: member, signal } = instance
  const env = { ...initialEnv }
  /** What was changed since it came: the machine's own environment need not travel back. */
  const changes = (): Record<string, string | null> => ({
    ...Object.fromEntries(Object.keys(initialEnv).map((name) => [name, env[name] ?? null])),
    ...env,
  })
  const changed = (): Record<string, string | null> =>
    Object.fromEntries(
      Object.entries(changes()).filter(([name, value]) => value !== initialEnv[name]),
    )
  const failed = (error: unknown, what: string): ManyhostError =>
    AgentConnection.toStartError(error, what, instance.output, instance.service)

  return {
    env,
    signal,
    log: (line) => instance.addOutput(`${line}\n`),
    async run(command, ...args) {
      signal.throwIfAborted()
      let stdout = ''
      try {
        await member.po.co(
          async (co) => {
            await co.sendCode(code`run(${id}, ${changed()}, ${command}, ${args})`)
            await co.startRecv()
            for await (const piece of co) stdout += parseText(piece, 1_048_576)
            await co.waitCompleted()
          },
          { signal },
        )
        return stdout
      } catch (error) {
        signal.throwIfAborted()
        throw failed(error, `'${command}' was not run`)
      }
    },
    async spawn(command, ...args) {
      signal.throwIfAborted()
      try {
        const text = code`spawn(${id}, ${changed()}, ${command}, ${args})`
        await member.po.request(text, { signal })
      } catch (error) {
        signal.throwIfAborted()
        throw failed(error, `'${command}' was not started`)
      }
    },
    async upload(local, remote) {
      try {
        const source = resolve(local)
        await stat(source)
        await transfers.sendFiles(member, source, signal, (ticket) =>
          member.po.request(code`upload(${id}, ${ticket}, ${basename(source)}, ${remote})`, {
            signal,
          }),
        )
      } catch (cause) {
        throw createCopyError('upload', local, remote, cause)
      }
    },
    async download(remote, local) {
      try {
        const landing = await transfers.receiveFiles(member, (ticket) =>
          member.po.request(code`download(${id}, ${ticket}, ${remote})`, { signal }),
        )
        try {
          const target = await resolveDownloadTarget(
            landing.rootPath,
            local,
            posix.basename(remote),
          )
          await cp(landing.rootPath, target, { recursive: true, verbatimSymlinks: true })
        } finally {
          await landing.remove()
        }
      } catch (cause) {
        throw createCopyError('download', remote, local, cause)
      }
    },
  }
}

/** As with the command cp: a file that is copied to a folder goes into it. */
async function resolveDownloadTarget(source: string, local: string, name: string): Promise<string> {
  const target = resolve(local)
  if ((await stat(source)).isDirectory()) return target
  const isFolder = (await stat(target).catch(() => undefined))?.isDirectory()
  return local.endsWith('/') || isFolder ? join(target, name) : target
}

function createCopyError(verb: string, from: string, to: string, cause: unknown): ManyhostError {
  const why = describeError(cause)
  const isTold = why.startsWith(`cannot ${verb} '`)
  return new ManyhostError(
    'MANYHOST_START_FAILED',
    isTold ? why : `cannot ${verb} '${from}' to '${to}': ${why}`,
    { cause },
  )
}
