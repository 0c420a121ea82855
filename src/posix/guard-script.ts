/**
 * The program of the guard, for any POSIX shell. It needs no other program: the programs that it runs from a fixed PATH
 * (`grep`, `sleep`, `rmdir`, `rm`) only make it faster, or tidy up.
 *
 * `$1` is the mark in the environment of all processes that we start, `$2` is a folder to remove. The guard reads lines:
 *   `+-123`, `--123`        add and drop a process group
 *   `+123:456`, `-123:456`  add and drop a process, by its pid and start time
 *   `+/path`, `-/path`      add and drop a control group
 *   `p`, `c`                make pipes, and close them (pipes.ts)
 *
 * At the end of its input the guard kills processes, in passes, until a pass finds none:
 * 1. the processes of the control groups;
 * 2. the known processes, and each process that /proc shows as their child, or in a known group or session;
 * 3. the known process groups;
 * 4. the processes that have the mark in their environment.
 */
export const GUARD_SCRIPT = `
trap '' HUP INT QUIT TERM USR1 USR2 PIPE
PATH=/usr/sbin:/usr/bin:/sbin:/bin
mark=$1 folder=$2 facts=' ' blank=$IFS

kill_cgroup() {
  for procs in "$1/cgroup.procs" "$1"/*/cgroup.procs "$1"/*/*/cgroup.procs "$1"/*/*/*/cgroup.procs; do
    [ -e "$procs" ] || continue
    while IFS= read -r pid; do found=1; kill -KILL "$pid"; done <"$procs"
  done
  [ ! -e "$1/cgroup.kill" ] || echo 1 >"$1/cgroup.kill"
}

# all: pid:parent:group:session of each process. ours: pids, with a space on both sides.
kill_descendants() {
  all= ours=' ' groups=' '
  for file in /proc/[0-9]*/stat; do
    line=
    while IFS= read -r part; do line="$line$part"; done <"$file"
    pid=\${file#/proc/} pid=\${pid%/stat}
    set -f; set -- \${line##*) }; set +f
    case $1 in Z | X | '') continue ;; esac
    all="$all $pid:$2:$3:$4"
    case $facts in *" $pid:\${20} "*) ours="$ours$pid " ;; esac
  done
  for fact in $facts; do
    case $fact in -*) groups="$groups\${fact#-} " ;; esac
  done
  more=1
  while [ -n "$more" ]; do
    more=
    for one in $all; do
      IFS=:; set -- $one; IFS=$blank
      case $ours in *" $1 "*) continue ;; esac
      case "$ours$groups" in *" $2 "* | *" $3 "* | *" $4 "*) ours="$ours$1 "; more=1 ;; esac
    done
  done
  for pid in $ours; do found=1; kill -KILL "$pid"; done
}

kill_marked() {
  if command -v grep >/dev/null; then
    set -- $(grep -lsF -- "$mark" /proc/[0-9]*/environ)
  else
    set --
    for file in /proc/[0-9]*/environ; do
      while IFS= read -r line || [ -n "$line" ]; do
        case $line in *"$mark"*) set -- "$@" "$file"; break ;; esac
      done <"$file"
    done
  fi
  for file; do
    pid=\${file#/proc/}
    found=1; kill -KILL "\${pid%/environ}"
  done
}

while IFS= read -r line; do
  rest=\${line#?}
  case $line in
    +*) facts="$facts$rest " ;;
    -*) case $facts in *" $rest "*) facts="\${facts%%" $rest "*} \${facts#*" $rest "}" ;; esac ;;
    p) exec 3<<P 4<<P 5<<P 6<<P 7<<P 8<<P; echo p ;;

P

P

P

P

P

P
    c) exec 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- ;;
  esac
done
exec 3<&- 4<&- 5<&- 6<&- 7<&- 8<&-
passes=0 found=1
while [ -n "$found" ] && [ "$passes" -lt 100 ]; do
  found=
  for fact in $facts; do
    case $fact in /*) kill_cgroup "$fact" ;; esac
  done
  kill_descendants
  for fact in $facts; do
    case $fact in -*) kill -KILL -- "$fact" ;; esac
  done
  kill_marked
  passes=$((passes + 1))
  [ -z "$found" ] || sleep 0.02 || sleep 1
done
for fact in $facts; do
  case $fact in /*) rmdir "$fact"/*/*/* "$fact"/*/* "$fact"/* "$fact" ;; esac
done
rm -rf -- "$folder"
`
