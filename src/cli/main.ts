#!/usr/bin/env node
/** `manyhost`: reads the command line, runs the command, and ends with its exit code. */
import { CommanderError } from 'commander'
import { describeError } from '../core/errors.ts'
import { redactPasswords } from '../posix/environment.ts'
import { CliError, EXIT, exitCodesFor } from './exit.ts'
import { isStoppedUnread, watchOutputReaders } from './output-readers.ts'
import { createProgram } from './program.ts'
import { createPaint, write } from './terminal.ts'

const exitCodes = exitCodesFor(process.argv[2])

/** Ctrl-C ends a command at once. Commands that run until Ctrl-C replace this listener. */
process.once('SIGINT', () => process.exit(exitCodes('interrupted')))

watchOutputReaders(() => exitCodes('terminated'))

let exitCode: number = EXIT.ok.number
try {
  const cli = createProgram((number) => {
    exitCode = number
  })
  await cli.parseAsync()
} catch (error) {
  exitCode = await printError(error)
}
// All output is written before the end. Idle connections and the like do not keep the process alive.
await Promise.all([write(''), write('', process.stderr)])
process.exit(exitCode === EXIT.ok.number && isStoppedUnread() ? exitCodes('terminated') : exitCode)

/** Prints an error. One that manyhost did not expect is printed with its stack. Resolves with the exit code. */
async function printError(error: unknown): Promise<number> {
  if (error instanceof CommanderError) {
    // The parser has printed its message already.
    return error.exitCode === 0 ? EXIT.ok.number : EXIT.usage.number
  }
  const isKnown = typeof (error as { code?: unknown })?.code === 'string'
  const { exitKind, message } =
    error instanceof CliError
      ? error
      : isKnown || !(error instanceof Error)
        ? { exitKind: 'failure' as const, message: describeError(error) }
        : { exitKind: 'fault' as const, message: error.stack ?? error.message }
  if (message) {
    const text = redactPasswords(message)
    await write(`${createPaint(process.stderr)('red', 'manyhost:')} ${text}\n`, process.stderr)
  }
  return exitCodes(exitKind)
}
