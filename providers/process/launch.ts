/** One child process, started without a shell as the leader of a process group of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { statSync } from 'node:fs'
import { asError, describe, ManyhostError } from '../../src/errors.ts'
import type { Exit } from '../../src/provider.ts'
import { turn } from '../../src/time.ts'
import { pump } from './output.ts'

export interface Launch {
  readonly command: string
  readonly args: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  readonly onStdout: (text: string) => void
  readonly onStderr: (text: string) => void
}

/**
 * `onStarted` is called in the tick in which the process was made.
 * @throws ManyhostError MANYHOST_START_FAILED
 */
export async function launch(
  { command, args, cwd, env, onStdout, onStderr }: Launch,
  onStarted: (child: ChildProcess, pid: number) => void,
): Promise<void> {
  let child: ChildProcess
  try {
    child = spawn(command, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  } catch (error) {
    throw startFailure(command, cwd, error)
  }
  if (child.pid === undefined) {
    const [error] = await once(child, 'error')
    throw startFailure(command, cwd, error)
  }
  // Later ones, of a signal that could not be sent, have nobody to tell.
  child.on('error', () => {})
  if (child.stdout) pump(child.stdout, onStdout)
  if (child.stderr) pump(child.stderr, onStderr)
  onStarted(child, child.pid)
}

/** The system says ENOENT for a missing folder and for a missing command alike. */
function startFailure(command: string, cwd: string, thrown: unknown): ManyhostError {
  const cause = asError(thrown)
  const folder = statSync(cwd, { throwIfNoEntry: false })
  const text = !folder
    ? `cwd '${cwd}' does not exist, for command '${command}'`
    : !folder.isDirectory()
      ? `cwd '${cwd}' is not a folder, for command '${command}'`
      : `command '${command}' ${WHY[(cause as NodeJS.ErrnoException).code ?? ''] ?? `cannot be started: ${describe(cause)}`}`
  return new ManyhostError('MANYHOST_START_FAILED', text, { cause })
}

const WHY: Record<string, string> = {
  ENOENT: 'not found (ENOENT)',
  EACCES: 'is not executable, or a folder (EACCES)',
}

export function exitOf(code: number | null, signal: NodeJS.Signals | null): Exit {
  return code === null
    ? { reason: 'killed', detail: `killed by ${signal}` }
    : { reason: 'exited', detail: `exit code ${code}` }
}

/**
 * To be called when the process has exited; resolves when all that it wrote was read. 'close' says so, but does not
 * come while a process in the background holds the pipe. After one whole turn of the event loop each pipe was read
 * until it was empty, so the second turn is late enough. (A timer would guess.)
 */
export async function outputRead(child: ChildProcess): Promise<void> {
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()))
  await Promise.race([closed, turn().then(turn)])
}
