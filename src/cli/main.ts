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

/** What ends a command that has no own way to end: commands that run until Ctrl-C replace this. */
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
// What was written is taken before the end; what still holds the process, such as idle connections, does not.
await Promise.all([write(''), write('', process.stderr)])
process.exit(exitCode === EXIT.ok.number && isStoppedUnread() ? exitCodes('terminated') : exitCode)

/** Says what went wrong; what is no error of ours is a fault of ours, and is shown with its stack. */
async function printError(error: unknown): Promise<number> {
  if (error instanceof CommanderError) {
    // The parser has said it already.
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
    const said = redactPasswords(message)
    await write(`${createPaint(process.stderr)('red', 'manyhost:')} ${said}\n`, process.stderr)
  }
  return exitCodes(exitKind)
}
