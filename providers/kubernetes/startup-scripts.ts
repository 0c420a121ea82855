/**
 * What keeps a pod alive for a startup function, and what its commands are begun by. The pod's own process waits at a
 * pipe for the exit code of what was spawned, and ends with it: so the end of a server that was begun by a function is
 * the end of its container, known to the cluster although nobody of ours was connected, and its output is the pod's.
 */
import { quoteShellWord } from '../../src/posix/shell-words.ts'

/** Where the waiting process has its things. A pod has a /tmp of its own. */
export function instanceFolder(id: string): string {
  return `/tmp/.manyhost-${id.replace(/[^\w.-]/g, '-')}`
}

/** SIGTERM is handed to what was spawned, each in a process group of its own; nothing spawned means nothing to wait for. */
export function idleScript(id: string): string {
  return `home=${instanceFolder(id)}
rm -rf "$home" && mkdir -p "$home/spawned" && mkfifo "$home/end" || exit 126
exec 3<>"$home/end"
stop() { for one in "$home/spawned"/*; do case $one in *'/*') exit 143 ;; esac; kill -TERM "-\${one##*/}" || kill -TERM "\${one##*/}"; done 2>/dev/null; }
trap stop TERM
echo $$ >"$home/new" && mv "$home/new" "$home/pid"
until read -r code <&3; do :; done
rm -rf "$home"
exit "$code"`
}

export interface PodCommandScript {
  readonly id: string
  readonly command: string
  readonly args: readonly string[]
  readonly cwd: string | undefined
  readonly env: Readonly<Record<string, string>>
}

const NOT_STARTED = 126

function prepareScript({ command, cwd, env }: PodCommandScript): string {
  const exports = Object.entries(env).map(
    ([name, value]) => `export ${name}=${quoteShellWord(value)}`,
  )
  const folder = `cwd '${cwd}' does not exist, or is no folder, for command '${command}'`
  return `${cwd === undefined ? '' : `cd -- ${quoteShellWord(cwd)} 2>/dev/null || { echo ${quoteShellWord(folder)} >&2; exit ${NOT_STARTED}; }`}
${exports.join('\n')}`
}

/** Runs a command in the foreground; its exit code is the script's. */
export function foregroundScript(spawn: PodCommandScript): string {
  return `${prepareScript(spawn)}
exec ${[spawn.command, ...spawn.args].map(quoteShellWord).join(' ')} </dev/null`
}

/** Begins a command that outlives the connection, and ends at once. Its exit code goes to the waiting process. */
export function backgroundScript(spawn: PodCommandScript): string {
  const { id, command, args } = spawn
  const why = `command '${command}' not found, or not executable`
  return `home=${instanceFolder(id)}
tries=0
while [ ! -e "$home/pid" ]; do tries=$((tries + 1)); [ "$tries" -lt 100 ] || { echo "the pod's first process is not ready" >&2; exit ${NOT_STARTED}; }; sleep 0.1 || sleep 1; done
out=/proc/$(cat "$home/pid")/fd
${prepareScript(spawn)}
command -v -- ${quoteShellWord(command)} >/dev/null 2>&1 || { echo ${quoteShellWord(why)} >&2; exit ${NOT_STARTED}; }
export MANYHOST_HOME="$home"
exec setsid sh -c ${quoteShellWord(SPAWNED_SCRIPT)} sh ${[command, ...args].map(quoteShellWord).join(' ')} </dev/null >>"$out/1" 2>>"$out/2" &
exit 0`
}

/** It leads its group, whose number is its own. */
const SPAWNED_SCRIPT = `home=$MANYHOST_HOME; unset MANYHOST_HOME
: >"$home/spawned/$$"
trap : TERM
"$@" &
pid=$!
wait "$pid"; code=$?
while kill -0 "$pid" 2>/dev/null; do wait "$pid"; code=$?; done
rm -f "$home/spawned/$$"
echo "$code" >"$home/end"`
