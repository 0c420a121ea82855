/**
 * A runner that is killed cannot end its tasks. This shell, in a session of its own, reads from a pipe whose other end
 * only the runner holds: however the runner dies, it reads the end of it, and kills all groups that it was told of.
 * (The provider `processes` has a like guard for its instances; src sees no provider, and a runner may be anywhere.)
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Socket } from 'node:net'

/** `+pgid` and `-pgid` add and drop a group. `$1` is the marker of all that the runner starts, for who left his group. */
const SCRIPT = `
trap '' HUP INT QUIT TERM
groups=' '
while IFS= read -r line; do
  rest=\${line#?}
  case $line in
    +*) groups="$groups$rest " ;;
    -*) case $groups in *" $rest "*) groups="\${groups%%" $rest "*} \${groups#*" $rest "}" ;; esac ;;
  esac
done
for group in $groups; do kill -KILL "-$group"; done
passes=0
while found=$(grep -lsF -- "MANYHOST_RUNNER=$1" /proc/[0-9]*/environ); [ -n "$found" ] && [ "$passes" -lt 50 ]; do
  for file in $found; do
    pid=\${file#/proc/}
    kill -KILL "\${pid%/environ}"
  done
  passes=$((passes + 1))
  sleep 0.02 || sleep 1
done
rm -rf -- "$2"
`

export class Guard {
  readonly #child: ChildProcess

  /** @param folder removed when the runner has gone */
  constructor(marker: string, folder: string) {
    this.#child = spawn('/bin/sh', ['-c', SCRIPT, 'manyhost-runner-guard', marker, folder], {
      detached: true,
      env: { PATH: process.env.PATH ?? '/usr/bin:/bin' },
      cwd: '/',
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    // Without a guard tasks still run; the provider's own, where there is one, is behind it.
    this.#child.on('error', () => {})
    this.#child.stdin?.on('error', () => {})
    this.#child.unref()
    ;(this.#child.stdin as Socket | null)?.unref()
  }

  watch(group: number): void {
    this.#child.stdin?.write(`+${group}\n`)
  }

  forget(group: number): void {
    this.#child.stdin?.write(`-${group}\n`)
  }

  /** Ends it as the runner's death would; resolves when nothing is left. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#child.pid === undefined || this.#child.exitCode !== null) return resolve()
      this.#child.ref()
      this.#child.once('exit', () => resolve())
      this.#child.stdin?.end()
    })
  }
}
