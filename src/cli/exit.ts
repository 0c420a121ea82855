/** Exit codes, and the error that ends a command with one of them. A test compares docs/cli.md with these tables. */
import { ManyhostError } from '../core/errors.ts'

export const EXIT = {
  ok: defineExitCode(0, 'done'),
  failure: defineExitCode(1, 'it failed; `request`: the answer has a status of 400 or above'),
  usage: defineExitCode(2, 'the command line is wrong'),
  config: defineExitCode(3, 'the configuration file is wrong or cannot be read'),
  unreachable: defineExitCode(4, 'the admin address, or the broker of a feed, cannot be reached'),
  notFound: defineExitCode(5, 'no service, instance or task has that name'),
  refused: defineExitCode(
    6,
    'the admin address, a broker or the hub of an agent wants a secret, or another one',
  ),
  listen: defineExitCode(
    7,
    'an address cannot be listened on: taken, no right, not of this machine',
  ),
  interrupted: defineExitCode(130, 'ended by Ctrl-C; `serve`: by the second one, without waiting'),
  terminated: defineExitCode(143, 'ended by SIGTERM; `serve`: by the second one, without waiting'),
} as const

/** The exit codes of `manyhost run` and `manyhost tasks`, which are those of HyperShell's programs. */
export const TASK_EXIT = {
  ok: defineExitCode(
    0,
    'done; of `run` and `wait -r` the exit status of the task, where a process can have it',
  ),
  failure: defineExitCode(1, 'tasks failed or were cancelled, or lines were no tasks'),
  usage: defineExitCode(2, 'the command line is wrong'),
  config: defineExitCode(
    3,
    'a file is wrong or cannot be read, or the store is of another version',
  ),
  interrupted: defineExitCode(4, 'ended by Ctrl-C or SIGTERM'),
  runtime: defineExitCode(
    5,
    'it could not be done: no such task, no server, no right, an address that is taken',
  ),
  fault: defineExitCode(6, 'a fault of manyhost itself, with its stack'),
} as const

/** The exit code of a process for the exit status of a task. -1 to -3, and the status of an HTTP response, become 1. */
export function toExitStatus(status: number): number {
  return status >= 0 && status <= 255 ? status : TASK_EXIT.failure.number
}

type ExitKind = keyof typeof EXIT | 'fault'

/** The exit codes of a command. `command` is its first word. */
export function exitCodesFor(command: string | undefined): (ending: ExitKind) => number {
  if (command !== 'tasks' && command !== 'run') {
    return (ending) => EXIT[ending === 'fault' ? 'failure' : ending].number
  }
  return (ending) => {
    if (ending === 'terminated') return TASK_EXIT.interrupted.number
    const isOwn = ending !== 'failure' && Object.hasOwn(TASK_EXIT, ending)
    return TASK_EXIT[isOwn ? (ending as 'usage') : 'runtime'].number
  }
}

function defineExitCode(number: number, meaning: string): { number: number; meaning: string } {
  return { number, meaning }
}

/** Ends the command. The user reads the message, which is one line where possible. */
export class CliError extends Error {
  readonly exitKind: keyof typeof EXIT

  constructor(exit: keyof typeof EXIT, message: string, options?: ErrorOptions) {
    super(message, options)
    this.exitKind = exit
  }
}

/**
 * Turns an error into one that ends the command with a fitting exit code:
 *
 * 1. `listen` if a server could not listen,
 * 2. else what `kinds` has for the code of the error,
 * 3. else `otherwise` for an error of manyhost.
 *
 * Any other error, and a CliError, is returned as it is.
 */
export function toCliError(
  error: unknown,
  kinds: Readonly<Record<string, CliError['exitKind']>>,
  otherwise?: CliError['exitKind'],
): unknown {
  if (!(error instanceof Error) || error instanceof CliError) return error
  const kind =
    listenErrorKind(error) ??
    kinds[(error as NodeJS.ErrnoException).code ?? ''] ??
    (error instanceof ManyhostError ? otherwise : undefined)
  return kind === undefined ? error : new CliError(kind, error.message, { cause: error })
}

function listenErrorKind(error: Error): 'listen' | undefined {
  const isListenError = [error, error.cause].some(
    (one) => (one as NodeJS.ErrnoException | undefined)?.syscall === 'listen',
  )
  return isListenError ? 'listen' : undefined
}
