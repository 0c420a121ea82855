/** The context of a startup function whose instance runs on this machine. */
import { cp, stat } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import type { StartupContext } from '../../src/core/provider.ts'
import { resolveFileTarget, withCopyError } from '../shared/file-copy.ts'

/** The parts of an instance that its startup function uses. */
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
  verb: 'upload' | 'download',
  from: string,
  to: string,
  fromFolder: string,
  toFolder: string,
): Promise<void> {
  await withCopyError(verb, from, to, async () => {
    const source = resolve(fromFolder, from)
    const path = resolve(toFolder, to)
    const target = (await stat(source)).isDirectory()
      ? path
      : await resolveFileTarget(path, basename(source), to.endsWith('/'))
    // A startup function that also runs on other machines may name a file that is already where it belongs.
    if (source !== target) await cp(source, target, { recursive: true })
  })
}
