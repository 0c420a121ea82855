/**
 * What no handler in this process can do: end the children after this process was killed. A shell, in a session of
 * its own, reads from a pipe whose other end only we hold. However we die, it then reads the end of the pipe.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { ManyhostError } from '../../src/errors.ts'
import { afterIdly, type Timer } from '../../src/time.ts'

/**
 * `$1` is the marker in the environment of all that we start, `$2` a folder to remove.
 * Lines: `+pgid` and `-pgid` add and drop a process group, `!id` kills all that carries the id of an instance.
 * A process that has left its group (setsid) is found by the marker, where there is a /proc.
 */
const SCRIPT = `
trap '' HUP INT QUIT TERM
marked() {
  found=$(grep -lsF -- "MANYHOST_SESSION=$marker" /proc/[0-9]*/environ)
  if [ -n "$found" ] && [ -n "$1" ]; then
    found=$(grep -lszxF -- "MANYHOST_INSTANCE=$1" $found)
  fi
}
sweep() {
  passes=0
  while marked "$1"; [ -n "$found" ] && [ "$passes" -lt 50 ]; do
    for file in $found; do
      pid=\${file#/proc/}
      kill -KILL "\${pid%/environ}"
    done
    passes=$((passes + 1))
    sleep 0.02 || sleep 1
  done
}
marker=$1 groups=' '
while IFS= read -r line; do
  rest=\${line#?}
  case $line in
    +*) groups="$groups$rest " ;;
    -*) case $groups in *" $rest "*) groups="\${groups%%" $rest "*} \${groups#*" $rest "}" ;; esac ;;
    !*) sweep "$rest" ;;
  esac
done
for group in $groups; do kill -KILL "-$group"; done
sweep ''
rm -rf -- "$2"
`

/** A guard that ends again and again is beyond repair. */
const MAX_GUARDS = 10

/** How long ended instances are collected before the guard looks for what they left; reading /proc has its price. */
const SWEEP_DELAY = 50

export class Guard {
  readonly #marker: string
  readonly #folder: string
  readonly #groups = new Set<number>()
  readonly #ended = new Set<string>()
  #child: ChildProcess | undefined
  #started = 0
  #timer: Timer | undefined

  constructor(marker: string, folder: string) {
    this.#marker = marker
    this.#folder = folder
  }

  /**
   * To be called before the first child is started: nothing may run unguarded.
   * @throws ManyhostError MANYHOST_START_FAILED
   */
  ensure(): void {
    if (this.#child) return
    const child = spawn('/bin/sh', ['-c', SCRIPT, 'manyhost-guard', this.#marker, this.#folder], {
      // `detached`: Ctrl-C goes to our process group. A clean environment: it would else find itself by the marker.
      detached: true,
      env: { PATH: process.env.PATH ?? '/usr/bin:/bin' },
      cwd: '/',
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    child.on('error', () => this.#lost(child))
    if (child.pid === undefined) {
      throw new ManyhostError(
        'MANYHOST_START_FAILED',
        'the guard of the processes, /bin/sh, cannot be started',
      )
    }
    this.#child = child
    this.#started++
    child.once('exit', () => this.#lost(child))
    child.stdin?.on('error', () => {})
    child.unref()
    ;(child.stdin as Socket).unref()
    for (const group of this.#groups) this.#tell(`+${group}`)
  }

  /** To be called in the tick in which the group was made. */
  watch(group: number): void {
    this.#groups.add(group)
    this.#tell(`+${group}`)
  }

  forget(group: number): void {
    if (this.#groups.delete(group)) this.#tell(`-${group}`)
  }

  /** Kills, soon, what an ended instance has left outside of its groups. */
  sweep(instance: string): void {
    if (process.platform !== 'linux' || instance.includes('\n')) return
    this.#ended.add(instance)
    this.#timer ??= afterIdly(SWEEP_DELAY, () => {
      this.#timer = undefined
      for (const id of this.#ended) this.#tell(`!${id}`)
      this.#ended.clear()
    })
  }

  /** Ends the guard as our death would: what is left of the children is gone when this resolves. */
  async close(): Promise<void> {
    this.#timer?.clear()
    this.#timer = undefined
    this.#ended.clear()
    const child = this.#child
    if (!child) return
    this.#child = undefined
    this.#started = 0
    this.#groups.clear()
    const exited = once(child, 'exit')
    child.ref()
    child.stdin?.end()
    await exited.catch(() => {})
  }

  #tell(line: string): void {
    this.#child?.stdin?.write(`${line}\n`)
  }

  /** Somebody ended the guard: the groups that it knew get a new one. */
  #lost(child: ChildProcess): void {
    if (this.#child !== child) return
    this.#child = undefined
    if (this.#groups.size === 0 || this.#started >= MAX_GUARDS) return
    try {
      this.ensure()
    } catch {
      // The next start tries again, and has somebody to tell.
    }
  }
}
