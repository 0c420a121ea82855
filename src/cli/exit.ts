/** Exit codes, and the error that ends a command with one of them. docs/cli.md is held against this table by a test. */

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

/** Of `run` and of the commands of `tasks`: those of HyperShell's programs. docs/cli.md has this table as well. */
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

/** What a process can end with for a task: our own -1 to -3, and a status of HTTP, become 1. */
export function toExitStatus(status: number): number {
  return status >= 0 && status <= 255 ? status : TASK_EXIT.failure.number
}

type ExitKind = keyof typeof EXIT | 'fault'

/** The codes of a command, by its first word. */
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

/** Ends the command: its message is what the user reads, on one line where one will do. */
export class CliError extends Error {
  readonly exitKind: keyof typeof EXIT

  constructor(exit: keyof typeof EXIT, message: string, options?: ErrorOptions) {
    super(message, options)
    this.exitKind = exit
  }
}
