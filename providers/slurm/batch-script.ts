/**
 * The batch script: bash, which can open TCP connections by itself. It calls back, and then opens a shell for each line
 * that asks for one, over connections of its own. The callback is its lifeline: when it ends, so does all of the job.
 */
import { quoteShellWord } from '../../src/posix/shell-words.ts'
import { BOOTSTRAP, sweepFunction } from '../shared/remote-shell/shell.ts'

export interface SlurmScriptOptions {
  readonly id: string
  readonly host: string
  readonly port: number
  readonly token: string
  /** Ports that this instance, and no other of its session, may have. */
  readonly ports: readonly number[]
}

/**
 * How many of the job were killed for want of memory, as the kernel counts them where the node holds its jobs to their
 * limits by cgroups: Slurm itself says it when the whole job has ended, which is later.
 */
const OOM_COUNT = `counts=
while IFS=: read -r number kinds path; do
  case ,$kinds, in
    *,memory,*) counts=/sys/fs/cgroup/memory$path/memory.oom_control ;;
    ,,) [ -n "$counts" ] || counts=/sys/fs/cgroup$path/memory.events ;;
  esac
done </proc/self/cgroup
killed() {
  while read -r name count; do [ "$name" != oom_kill ] || echo "$count"; done <"$counts"
} 2>/dev/null`

/** What the script may ask of us, one line each. */
export function batchScript({ id, host, port, token, ports }: SlurmScriptOptions): string {
  return `#!/bin/bash
# An instance of manyhost. The token is for this one job, and for one run of it.
back=/dev/tcp/${host}/${port}
token=${token}
trap : PIPE HUP
${sweepFunction(id)}
taken() { grep -qsi "^ *[0-9]*: [0-9a-f]*:$(printf %04X "$1") [0-9a-f]*:0000 0A" /proc/net/tcp /proc/net/tcp6; }
${OOM_COUNT}
before=$(killed)
port=0
for one in ${ports.join(' ')}; do taken "$one" || { port=$one; break; }; done
exec 3<>"$back" || exit 75
printf 'job %s %s %s %s %s\\n' "$token" "$SLURM_JOB_ID" "\${SLURM_RESTART_COUNT:-0}" "$SLURMD_NODENAME" "$port" >&3
IFS= read -r -t 30 answer <&3
[ "$answer" = welcome ] || exit 75
trap 'printf "leaving\\n" >&3' USR1
trap 'printf "ending\\n" >&3' TERM
shell() {
  trap : USR1 TERM
  if exec 4<>"$back" && printf 'out %s %s\\n' "$token" "$1" >&4 &&
     exec 5<>"$back" && printf 'err %s %s\\n' "$token" "$1" >&5; then
    # Pipes between: a program cannot open /dev/stdout where that is a socket, and may not write all before it exits.
    sh -c ${quoteShellWord(BOOTSTRAP)} 3<&- <&4 > >(exec cat >&4 3<&- 5<&-) 2> >(exec cat >&5 3<&- 4<&-) 4<&- 5<&- &
    pid=$!
    exec 4<&- 5<&-
    wait "$pid"; code=$?
    while kill -0 "$pid" 2>/dev/null; do wait "$pid"; code=$?; done
  else code=126; fi
  why=
  [ "$code" != 137 ] || [ "$(killed)" = "$before" ] || why=memory
  printf 'exit %s %s %s\\n' "$1" "$code" "$why" >&3
}
while IFS= read -r line <&3; do
  case $line in
    open\\ *) shell "\${line#open }" & ;;
    bye) break ;;
  esac
done
trap '' USR1 TERM
sweep
exit 0
`
}
