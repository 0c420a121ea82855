/**
 * The scripts for a startup function: one keeps the pod alive, the others start commands in it. The first process of the
 * pod waits at a pipe for the exit code of the spawned command, and ends with that code. So the end of a server that a
 * function has started is the end of its container. The cluster sees it although nobody of ours is connected, and the
 * output of the server is the output of the pod.
 */
import { quoteShellWord } from '../../src/posix/shell-words.ts'
import {
  exportLines,
  missingCommandText,
  missingFolderText,
  NOT_STARTED,
  WAIT_FOR_PID,
} from '../shared/script-parts.ts'

/** The folder of the waiting process. A pod has a /tmp of its own. */
export function instanceFolder(id: string): string {
  return `/tmp/.manyhost-${id.replace(/[^\w.-]/g, '-')}`
}

/** SIGTERM is passed on to each spawned process group. If nothing was spawned, the pod ends at once. */
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

function prepareScript({ command, cwd, env }: PodCommandScript): string {
  return `${cwd === undefined ? '' : `cd -- ${quoteShellWord(cwd)} 2>/dev/null || { echo ${quoteShellWord(missingFolderText(cwd, command))} >&2; exit ${NOT_STARTED}; }`}
${exportLines(env).join('\n')}`
}

/** Runs a command in the foreground; its exit code is the script's. */
export function foregroundScript(spawn: PodCommandScript): string {
  return `${prepareScript(spawn)}
exec ${[spawn.command, ...spawn.args].map(quoteShellWord).join(' ')} </dev/null`
}

/** Starts a command that outlives the connection, and ends at once. The exit code of the command goes to the first process. */
export function backgroundScript(spawn: PodCommandScript): string {
  const { id, command, args } = spawn

  return `home=${instanceFolder(id)}
tries=0
while [ ! -e "$home/pid" ]; do tries=$((tries + 1)); [ "$tries" -lt 100 ] || { echo "the pod's first process is not ready" >&2; exit ${NOT_STARTED}; }; sleep 0.1 || sleep 1; done
out=/proc/$(cat "$home/pid")/fd
${prepareScript(spawn)}
command -v -- ${quoteShellWord(command)} >/dev/null 2>&1 || { echo ${quoteShellWord(missingCommandText(command))} >&2; exit ${NOT_STARTED}; }
export MANYHOST_HOME="$home"
exec setsid sh -c ${quoteShellWord(SPAWNED_SCRIPT)} sh ${[command, ...args].map(quoteShellWord).join(' ')} </dev/null >>"$out/1" 2>>"$out/2" &
exit 0`
}

/** Leads a process group of its own, whose number is its pid. */
const SPAWNED_SCRIPT = `home=$MANYHOST_HOME; unset MANYHOST_HOME
: >"$home/spawned/$$"
trap : TERM
"$@" &
pid=$!
${WAIT_FOR_PID}
rm -f "$home/spawned/$$"
echo "$code" >"$home/end"`
