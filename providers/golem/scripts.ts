/**
 * The scripts that run on a rented machine. Its exe unit runs one command at a time and answers "Busy" to a second one
 * (golemfactory/yagna#3138). So every command is started in the background, and a script looks at all of them again and
 * again. Each script may be run twice, because its answer may get lost.
 */
import { quoteShellWord } from '../../src/posix/shell-words.ts'
import {
  exportLines,
  missingCommandText,
  missingFolderText,
  WAIT_FOR_PID,
} from '../shared/script-parts.ts'

/** Maximum number of bytes of one stream that one look returns. */
const MAX_CHUNK_BYTES = 262_144

/** A file of output is emptied when more than this many bytes of it were read. */
const MAX_OUTPUT_FILE_BYTES = 8_388_608

/** Interval at which a look checks for news, in seconds. */
const POLL_SECONDS = 0.2

function instanceFolder(id: string): string {
  return `/tmp/.manyhost/${id}`
}

export interface GolemLaunch {
  readonly id: string
  readonly number: number
  readonly command: string
  readonly args: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
}

/** Starts a command. The script prints `@` and a pid, or `!` and the reason why nothing was started. */
export function launchScript({ id, number, command, args, cwd, env }: GolemLaunch): string {
  const folder = `${instanceFolder(id)}/${number}`
  return `d=${quoteShellWord(folder)}
mkdir -p ${quoteShellWord(instanceFolder(id))}
if mkdir "$d" 2>/dev/null; then
  : >"$d/out"; : >"$d/err"
  if ! cd -- ${quoteShellWord(cwd)} 2>/dev/null; then echo ${quoteShellWord(`!${missingFolderText(cwd, command)}`)} >"$d/said"
  else
    begin() {
      ${exportLines(env).join('\n      ')}
      export MANYHOST_INSTANCE=${quoteShellWord(id)}
    }
    if ! (begin; command -v -- ${quoteShellWord(command)} >/dev/null 2>&1); then echo ${quoteShellWord(`!${missingCommandText(command)}`)} >"$d/said"
    else
      (
        trap : HUP
        (begin; exec setsid ${[command, ...args].map(quoteShellWord).join(' ')}) </dev/null >>"$d/out" 2>>"$d/err" &
        pid=$!
        echo "$pid" >"$d/pid"
        ${WAIT_FOR_PID}
        echo "$code" >"$d/exit.new"; mv "$d/exit.new" "$d/exit"
      ) </dev/null >/dev/null 2>&1 &
    fi
  fi
fi
tries=0
while ! [ -s "$d/pid" ] && ! [ -s "$d/said" ] && [ "$tries" -lt 500 ]; do tries=$((tries + 1)); sleep 0.01 || sleep 1; done
if [ -s "$d/said" ]; then cat "$d/said"; else echo "@$(cat "$d/pid")"; fi`
}

/** Sends a signal to the process groups of these commands. */
export function signalScript(
  id: string,
  numbers: readonly number[],
  name: 'TERM' | 'KILL',
): string {
  return `for n in ${numbers.join(' ')}; do
  d=${quoteShellWord(instanceFolder(id))}/$n
  [ -e "$d/exit" ] && continue
  pid=$(cat "$d/pid" 2>/dev/null) || continue
  kill -${name} "-$pid" 2>/dev/null || kill -${name} "$pid" 2>/dev/null
done
exit 0`
}

/** How far the output of a command was read, in bytes of each stream. */
export interface OutputProgress {
  readonly number: number
  out: number
  err: number
}

/**
 * Waits until a command has new output, or has ended, at most `ms`, and prints that.
 * @param token marks the lines between the pieces of output; no command can know it
 */
export function lookScript(
  id: string,
  progress: readonly OutputProgress[],
  ms: number,
  token: string,
): string {
  const each = (verb: string, rest = ''): string =>
    progress.map(({ number, out, err }) => `${verb} ${number} ${out} ${err}${rest}`).join('\n')
  return `base=${quoteShellWord(instanceFolder(id))}
size() { s=$(wc -c 2>/dev/null <"$base/$1/$2") || s=0; s=$((s)); }
news() {
  [ -e "$base/$1/exit" ] && return 0
  size "$1" out; [ "$s" -gt "$2" ] && return 0
  size "$1" err; [ "$s" -gt "$3" ] && return 0
  kill -0 "$(cat "$base/$1/pid")" 2>/dev/null || return 0
  return 1
}
left=${Math.max(1, Math.ceil(ms / 1_000 / POLL_SECONDS))}
while [ "$left" -gt 0 ]; do
${each('  news', ' && break')}
  left=$((left - 1))
  sleep ${POLL_SECONDS} || sleep 1
done
piece() {
  size "$1" "$2"
  length=$((s - $3))
  [ "$length" -gt 0 ] || return 0
  [ "$length" -gt ${MAX_CHUNK_BYTES} ] && length=${MAX_CHUNK_BYTES} && whole=no
  printf '\\n%s %s %s %s\\n' ${token} "$1" "$2" "$length"
  tail -c "+$(($3 + 1))" "$base/$1/$2" | head -c "$length"
  [ "$whole" = yes ] && [ "$s" -gt ${MAX_OUTPUT_FILE_BYTES} ] && : >"$base/$1/$2" && printf '\\n%s %s %s empty\\n' ${token} "$1" "$2"
}
tell() {
  whole=yes
  code=$(cat "$base/$1/exit" 2>/dev/null)
  if [ -z "$code" ] && ! kill -0 "$(cat "$base/$1/pid")" 2>/dev/null; then
    sleep 0.3 || sleep 1
    code=$(cat "$base/$1/exit" 2>/dev/null)
    [ -z "$code" ] && code=137
  fi
  piece "$1" out "$2"; piece "$1" err "$3"
  [ -n "$code" ] && [ "$whole" = yes ] && printf '\\n%s %s exit %s\\n' ${token} "$1" "$code"
}
${each('tell')}
exit 0`
}

export type GolemCommandEvent =
  | { readonly kind: 'out' | 'err'; readonly number: number; readonly text: string }
  | { readonly kind: 'exit'; readonly number: number; readonly code: number }

/** Reads the output of a look, and writes into `progress` how far the commands were read. */
export function parseLookOutput(
  output: string,
  progress: readonly OutputProgress[],
  token: string,
): GolemCommandEvent[] {
  const events: GolemCommandEvent[] = []
  for (const part of output.split(`\n${token} `).slice(1)) {
    const end = part.indexOf('\n')
    const [number, kind, figure] = part.slice(0, end).split(' ')
    const one = progress.find((each) => each.number === Number(number))
    if (!one) continue
    if (kind === 'exit') events.push({ kind, number: one.number, code: Number(figure) })
    else if (kind === 'out' || kind === 'err') {
      if (figure === 'empty') one[kind] = 0
      else {
        one[kind] += Number(figure)
        events.push({ kind, number: one.number, text: part.slice(end + 1) })
      }
    }
  }
  return events
}

/** Copies a file, or the contents of a packed folder, to its target, as the command cp does. */
export function unpackScript(
  from: string,
  to: string,
  name: string,
  mode: string | undefined,
): string {
  const [source, target] = [quoteShellWord(from), quoteShellWord(to)]
  const copy =
    mode === undefined
      ? `mkdir -p -- ${target} && tar -xf ${source} -C ${target}`
      : `target=${target}
case $target in */) mkdir -p -- "$target" ;; esac
[ -d "$target" ] && target=$target/${quoteShellWord(name)}
mkdir -p -- "$(dirname -- "$target")" && cat ${source} >"$target" && chmod ${mode} "$target"`
  return `{ ${copy}; } 2>&1; code=$?; rm -f ${source}; echo "=$code"`
}

/** Copies a file, or a packed folder, to a path from which it can be fetched. The script prints `file` or `folder`. */
export function packScript(from: string, to: string): string {
  const [source, target] = [quoteShellWord(from), quoteShellWord(to)]
  return `{ if [ -d ${source} ]; then tar -cf ${target} -C ${source} . && echo folder
else cat -- ${source} >${target} && echo file; fi; } 2>&1; echo "=$?"`
}

export function removeScript(path: string): string {
  return `rm -f ${quoteShellWord(path)}`
}
