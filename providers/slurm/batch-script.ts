/**
 * The batch script of a job. It is for bash, which can open TCP connections by itself. It calls back, and then opens a
 * shell for each line that asks for one, over connections of their own. When the callback connection ends, so does the
 * whole job.
 */
import { quoteShellWord } from '../../src/posix/shell-words.ts'
import { BOOTSTRAP } from '../shared/remote-shell/shell.ts'
import { sweepFunction, TAKEN_FUNCTION, WAIT_FOR_PID } from '../shared/script-parts.ts'

export interface SlurmScriptOptions {
  readonly id: string
  readonly host: string
  readonly port: number
  readonly token: string
  /** Ports that this instance may use, and no other instance of its session. */
  readonly ports: readonly number[]
}

/**
 * Defines `killed`: it prints how many processes of the job the kernel killed because they used too much memory, where
 * the node limits its jobs by control groups. Slurm itself says so only when the whole job has ended.
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

/** The script writes one line for each thing that it has to say; see `SlurmCallbackServer`. */
export function batchScript({ id, host, port, token, ports }: SlurmScriptOptions): string {
  return `#!/bin/bash
# An instance of manyhost. The token is for this one job, and for one run of it.
back=/dev/tcp/${host}/${port}
token=${token}
trap : PIPE HUP
${sweepFunction(id)}
${TAKEN_FUNCTION}
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
    # With pipes in between: a program cannot open /dev/stdout if that is a socket, and may exit before all is written.
    sh -c ${quoteShellWord(BOOTSTRAP)} 3<&- <&4 > >(exec cat >&4 3<&- 5<&-) 2> >(exec cat >&5 3<&- 4<&-) 4<&- 5<&- &
    pid=$!
    exec 4<&- 5<&-
    ${WAIT_FOR_PID}
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
