#!/usr/bin/env node
/** `manyhost`: reads the command line, runs the command, and ends with its exit code. */
import { CommanderError } from 'commander'
import { describe } from '../core/errors.ts'
import { withoutPasswords } from '../posix/environment.ts'
import { CliError, EXIT, exitsOf } from './exit.ts'
import { program } from './program.ts'
import { isStoppedUnread, watchReaders } from './readers.ts'
import { paintFor, write } from './terminal.ts'

const exits = exitsOf(process.argv[2])

/** What ends a command that has no own way to end: commands that run until Ctrl-C replace this. */
process.once('SIGINT', () => process.exit(exits('interrupted')))

watchReaders(() => exits('terminated'))

let code: number = EXIT.ok.number
try {
  const cli = program((number) => {
    code = number
  })
  await cli.parseAsync()
} catch (error) {
  code = await report(error)
}
// What was written is taken before the end; what still holds the process, such as idle connections, does not.
await Promise.all([write(''), write('', process.stderr)])
process.exit(code === EXIT.ok.number && isStoppedUnread() ? exits('terminated') : code)

/** Says what went wrong; what is no error of ours is a fault of ours, and is shown with its stack. */
async function report(error: unknown): Promise<number> {
  if (error instanceof CommanderError) {
    // The parser has said it already.
    return error.exitCode === 0 ? EXIT.ok.number : EXIT.usage.number
  }
  const isKnown = typeof (error as { code?: unknown })?.code === 'string'
  const { exit, message } =
    error instanceof CliError
      ? error
      : isKnown || !(error instanceof Error)
        ? { exit: 'failure' as const, message: describe(error) }
        : { exit: 'fault' as const, message: error.stack ?? error.message }
  if (message) {
    const said = withoutPasswords(message)
    await write(`${paintFor(process.stderr)('red', 'manyhost:')} ${said}\n`, process.stderr)
  }
  return exits(exit)
}
