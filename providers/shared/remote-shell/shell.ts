/**
 * The scripts for a machine that has nothing of ours but a shell. They go in by standard input: every user of the machine
 * can read command lines, and an environment may hold secrets.
 */
import type { Writable } from 'node:stream'
import { quoteShellWord } from '../../../src/posix/shell-words.ts'
import {
  exportLines,
  missingCommandText,
  missingFolderText,
  NOT_STARTED,
  sweepFunction,
  TAKEN_FUNCTION,
  WAIT_FOR_PID,
} from '../script-parts.ts'

/**
 * The only command line that is used. `dd` with blocks of one byte reads the script and nothing that comes after it;
 * `sh -s`, and `head -c` in busybox, do not promise that.
 */
export const BOOTSTRAP = 'IFS= read -r size; eval "$(dd bs=1 count="$size" 2>/dev/null)"'

/** The input of a shell that was started with `BOOTSTRAP`: the length of the script, and the script. */
export function frameScript(script: string): Buffer {
  const bytes = Buffer.from(`${script}\n`)
  return Buffer.concat([Buffer.from(`${bytes.length}\n`), bytes])
}

/** Sends a script to a shell that was started with `BOOTSTRAP`. */
export function sendScript(stdin: Writable, script: string): void {
  stdin.write(frameScript(script))
}

export interface LeashedCommand {
  readonly command: string
  readonly args: readonly string[]
  readonly cwd: string | undefined
  readonly env: Readonly<Record<string, string>>
  /** Names the instance in the environment of all its processes. */
  readonly id: string
  /** Names the session in the environment of all its processes. */
  readonly marker: string
  /** Whether the processes that the command leaves in its process group are killed when it ends. */
  readonly groupOnExit: 'dies' | 'stays'
}

/**
 * Runs a command in a process group of its own. The standard input of the script is a leash: each line on it names a
 * signal for the group, and its end kills the group. The script first writes one line: `@pid`, or `!` and the reason why
 * nothing was started. Processes that have left the group are found by the mark in their environment, where there is a
 * /proc.
 */
export function leashScript({
  command,
  args,
  cwd,
  env,
  id,
  marker,
  groupOnExit,
}: LeashedCommand): string {
  return `
trap : HUP INT TERM PIPE
${sweepFunction(id)}
exec 3<&0 </dev/null
${cwd === undefined ? '' : `cd -- ${quoteShellWord(cwd)} 2>/dev/null || { echo ${quoteShellWord(`!${missingFolderText(cwd, command)}`)}; exit ${NOT_STARTED}; }`}
${exportLines(env).join('\n')}
command -v -- ${quoteShellWord(command)} >/dev/null 2>&1 || { echo ${quoteShellWord(`!${missingCommandText(command)}`)}; exit ${NOT_STARTED}; }
(
  export MANYHOST_INSTANCE=${quoteShellWord(id)} MANYHOST_SESSION=${quoteShellWord(marker)}
  exec 3<&-
  exec setsid ${[command, ...args].map(quoteShellWord).join(' ')}
) &
pid=$!
echo "@$pid"
(
  trap '' HUP INT TERM PIPE
  exec >/dev/null 2>&1
  while IFS= read -r name <&3; do kill "-$name" "-$pid" || kill "-$name" "$pid"; done
  kill -KILL "-$pid" || kill -KILL "$pid"
  sweep
) &
watch=$!
# A shell prints a line about a child that was killed: nobody is to read that.
exec 3<&- >/dev/null 2>&1
${WAIT_FOR_PID}
${groupOnExit === 'dies' ? 'kill -KILL "-$pid" 2>/dev/null' : ''}
kill -KILL "$watch" 2>/dev/null
exit "$code"`
}

/** Prints the first of these ports that nobody on the machine listens on, or `none`. */
export function freePortScript(ports: readonly number[]): string {
  return `
${TAKEN_FUNCTION}
for port in ${ports.join(' ')}; do taken "$port" || { echo "$port"; exit 0; }; done
echo none`
}
