/**
 * What runs on a machine that has nothing of ours but a shell. All of it goes in by standard input: command lines are
 * there for every user of the machine to read, and an environment may hold secrets.
 */
import type { Writable } from 'node:stream'
import { quoteShellWord } from '../../../src/posix/shell-words.ts'

/**
 * The one command line. `dd` with blocks of one byte reads the script and nothing that comes after it, which `sh -s`,
 * and `head -c` in busybox, do not promise.
 */
export const BOOTSTRAP = 'IFS= read -r size; eval "$(dd bs=1 count="$size" 2>/dev/null)"'

/** Hands a shell that was begun with `BOOTSTRAP` its script. */
export function sendScript(stdin: Writable, script: string): void {
  const bytes = Buffer.from(`${script}\n`)
  stdin.write(Buffer.concat([Buffer.from(`${bytes.length}\n`), bytes]))
}

/** The exit code of a leash that started nothing. */
const NOT_STARTED = 126

export interface LeashedCommand {
  readonly command: string
  readonly args: readonly string[]
  readonly cwd: string | undefined
  readonly env: Readonly<Record<string, string>>
  /** Names the instance in the environment of all that is started for it. */
  readonly id: string
  readonly marker: string
  /** Whether what the command leaves in its process group ends with it. */
  readonly groupOnExit: 'dies' | 'stays'
}

/**
 * Runs a command in a process group of its own, with standard input as its lifeline: lines on it are signals for the
 * group, its end kills it. First it writes one line: `@pid`, or `!` and why nothing was started. What has left the
 * group is found by the mark in its environment, where there is a /proc.
 */
export function leashScript({
  command,
  args,
  cwd,
  env,
  id,
  marker,
  groupOnExit: rest,
}: LeashedCommand): string {
  const exports = Object.entries(env).map(
    ([name, value]) => `export ${name}=${quoteShellWord(value)}`,
  )
  return `
trap : HUP INT TERM PIPE
${sweepFunction(id)}
exec 3<&0 </dev/null
${cwd === undefined ? '' : `cd -- ${quoteShellWord(cwd)} 2>/dev/null || { echo ${quoteShellWord(`!cwd '${cwd}' does not exist, or is no folder, for command '${command}'`)}; exit ${NOT_STARTED}; }`}
${exports.join('\n')}
command -v -- ${quoteShellWord(command)} >/dev/null 2>&1 || { echo ${quoteShellWord(`!command '${command}' not found, or not executable`)}; exit ${NOT_STARTED}; }
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
# A shell says of its own what was killed.
exec 3<&- >/dev/null 2>&1
wait "$pid"; code=$?
while kill -0 "$pid" 2>/dev/null; do wait "$pid"; code=$?; done
${rest === 'dies' ? 'kill -KILL "-$pid" 2>/dev/null' : ''}
kill -KILL "$watch" 2>/dev/null
exit "$code"`
}

/** Defines the function that kills all that carries the mark of an instance. */
export function sweepFunction(id: string): string {
  return `sweep() {
  passes=0
  while found=$(grep -lszxF -- ${quoteShellWord(`MANYHOST_INSTANCE=${id}`)} /proc/[0-9]*/environ 2>/dev/null); [ -n "$found" ] && [ "$passes" -lt 50 ]; do
    for file in $found; do file=\${file#/proc/}; kill -KILL "\${file%/environ}" 2>/dev/null; done
    passes=$((passes + 1))
    sleep 0.02 || sleep 1
  done
}`
}

/** Prints the first of these ports that nobody on the machine listens on by the kernel's table, or `none`. */
export function freePortScript(ports: readonly number[]): string {
  return `
taken() { grep -qsi "^ *[0-9]*: [0-9a-f]*:$(printf %04X "$1") [0-9a-f]*:0000 0A" /proc/net/tcp /proc/net/tcp6; }
for port in ${ports.join(' ')}; do taken "$port" || { echo "$port"; exit 0; }; done
echo none`
}
