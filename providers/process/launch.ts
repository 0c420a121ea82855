/** Starts a child process, as the leader of a process group of its own, inside the scope of its instance. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { statSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import type { Exit } from '../../src/core/provider.ts'
import { yieldTurn } from '../../src/core/time.ts'
import type { ProcessScope } from '../../src/posix/containment.ts'
import { closePipe, openPipeReader, type Pipe, type PipePool } from '../../src/posix/pipes.ts'
import { forwardText } from '../shared/output.ts'

export interface ProcessLaunch {
  readonly command: string
  readonly args: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  readonly signal: AbortSignal
  readonly onStdout: (text: string) => void
  readonly onStderr: (text: string) => void
}

/** A process that was started, and its outputs. */
export interface StartedProcess {
  readonly child: ChildProcess
  readonly pid: number
  readonly outputs: readonly Readable[]
}

/**
 * @param onStarted is called in the tick in which the process was started
 * @throws ManyhostError MANYHOST_START_FAILED; the reason of the signal, if it was aborted before
 */
export async function launchProcess(
  { command, args, cwd, env, signal, onStdout, onStderr }: ProcessLaunch,
  { scope, pipes }: { scope: ProcessScope; pipes: PipePool },
  onStarted: (started: StartedProcess) => void,
): Promise<void> {
  const [stdout, stderr] = await Promise.all([pipes.take(), pipes.take()])
  const given = [stdout, stderr].filter((pipe) => pipe !== undefined)
  let child: ChildProcess
  const program = scope.enter(command, args, { cwd, env })
  try {
    signal.throwIfAborted()
    child = spawn(program.file, program.args, {
      cwd,
      env,
      detached: true,
      stdio: ['ignore', stdout?.writeEnd ?? 'pipe', stderr?.writeEnd ?? 'pipe'],
    })
  } catch (error) {
    given.forEach(closePipe)
    throw signal.aborted ? signal.reason : createStartError(command, cwd, error)
  }
  if (child.pid === undefined) {
    given.forEach(closePipe)
    const [error] = await once(child, 'error')
    throw createStartError(command, cwd, error)
  }
  const { pid } = child
  // A later error means that a signal could not be sent: nobody needs to know.
  child.on('error', () => {})
  child.once('exit', () => scope.removeLeader(pid))
  scope.addLeader(
    pid,
    program.entersScope,
    given.map(({ readEnd }) => readEnd),
  )
  const outputs = [
    openOutput(stdout, child.stdout, onStdout),
    openOutput(stderr, child.stderr, onStderr),
  ]
  onStarted({ child, pid, outputs })
}

function openOutput(
  pipe: Pipe | undefined,
  socket: Readable | null,
  sink: (text: string) => void,
): Readable {
  const output = pipe ? openPipeReader(pipe) : (socket as Readable)
  forwardText(output, sink)
  return output
}

/** The system gives ENOENT for a missing folder and for a missing command, so the folder is checked here. */
function createStartError(command: string, cwd: string, thrown: unknown): ManyhostError {
  const cause = asError(thrown)
  const folder = statSync(cwd, { throwIfNoEntry: false })
  const text = !folder
    ? `cwd '${cwd}' does not exist, for command '${command}'`
    : !folder.isDirectory()
      ? `cwd '${cwd}' is not a folder, for command '${command}'`
      : `command '${command}' ${START_ERROR_TEXTS[(cause as NodeJS.ErrnoException).code ?? ''] ?? `cannot be started: ${describeError(cause)}`}`
  return new ManyhostError('MANYHOST_START_FAILED', text, { cause })
}

const START_ERROR_TEXTS: Record<string, string> = {
  ENOENT: 'not found (ENOENT)',
  EACCES: 'is not executable, or a folder (EACCES)',
}

export function exitOfProcess(code: number | null, signal: NodeJS.Signals | null): Exit {
  return code === null
    ? { reason: 'killed', detail: `killed by ${signal}` }
    : { reason: 'exited', detail: `exit code ${code}` }
}

/**
 * Call this when the process has exited. It resolves when all output was read. 'close' would say so, but it does not come
 * while a process in the background holds the pipe. In one whole turn of the event loop each pipe is read until it is
 * empty, so after the second turn everything was read. A timer could only guess.
 */
export async function whenOutputRead(outputs: readonly Readable[]): Promise<void> {
  const closed = outputs.map(
    (output) =>
      output.closed || new Promise<void>((resolve) => output.once('close', () => resolve())),
  )
  await Promise.race([Promise.all(closed), yieldTurn().then(yieldTurn)])
}
