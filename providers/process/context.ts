/** What a startup function is given when the machine is this one. */
import { cp, stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import type { StartupContext } from '../../src/core/provider.ts'

/** What of an instance its startup function acts on. */
interface ContextHost {
  readonly env: Record<string, string>
  readonly cwd: string
  readonly signal: AbortSignal
  run(command: string, args: readonly string[]): Promise<string>
  spawn(command: string, args: readonly string[]): Promise<void>
  write(text: string): void
}

export function createContext(host: ContextHost): StartupContext {
  return {
    env: host.env,
    signal: host.signal,
    run: (command, ...args) => host.run(command, args),
    spawn: (command, ...args) => host.spawn(command, args),
    upload: (local, remote) => copyFile('upload', local, remote, process.cwd(), host.cwd),
    download: (remote, local) => copyFile('download', remote, local, host.cwd, process.cwd()),
    log: (text) => host.write(`${text}\n`),
  }
}

async function copyFile(
  verb: string,
  from: string,
  to: string,
  fromFolder: string,
  toFolder: string,
): Promise<void> {
  try {
    const source = resolve(fromFolder, from)
    const target = await resolveCopyTarget(source, resolve(toFolder, to), to.endsWith('/'))
    // A startup that is also run elsewhere may well name a file that is already where it belongs.
    if (source !== target) await cp(source, target, { recursive: true })
  } catch (cause) {
    throw new ManyhostError(
      'MANYHOST_START_FAILED',
      `cannot ${verb} '${from}' to '${to}': ${describeError(cause)}`,
      { cause },
    )
  }
}

/** As with the command cp: a file that is copied to a folder goes into it. */
async function resolveCopyTarget(
  source: string,
  target: string,
  namesFolder: boolean,
): Promise<string> {
  if ((await stat(source)).isDirectory()) return target
  const isFolder = namesFolder || (await stat(target).catch(() => undefined))?.isDirectory()
  return isFolder ? join(target, basename(source)) : target
}
