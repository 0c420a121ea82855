/**
 * All that one owner (a provider, a runner) starts on this machine. Nothing of it outlives the owner, and nothing of a
 * scope (an instance, a launcher of tasks) outlives the scope. means.ts says how far that can be promised.
 */

import { Cgroup } from './cgroup.ts'
import {
  type ContainmentKind,
  type ContainmentMethod,
  chooseContainmentMethod,
} from './containment-method.ts'
import { Guard, type GuardOptions } from './guard.ts'
import { PipePool } from './pipes.ts'
import { listProcesses, readLink } from './proc.ts'
import { ProcessTracker, type TrackedProcesses } from './process-tracker.ts'
import { isProgramFound } from './programs.ts'

/** A program and its arguments, as they are given to `spawn`. */
export interface ContainedProgram {
  readonly file: string
  readonly args: readonly string[]
  /** It enters the scope before it does anything else. */
  readonly entersScope: boolean
}

interface LaunchEnvironment {
  readonly cwd: string
  readonly env: Readonly<Record<string, string | undefined>>
}

export class Containment {
  readonly pipes: PipePool
  readonly #guard: Guard
  readonly #tracker: ProcessTracker
  #method: ContainmentMethod | undefined
  #cgroup: Cgroup | undefined

  constructor(options: GuardOptions) {
    this.#guard = new Guard(options)
    this.pipes = new PipePool(this.#guard)
    this.#tracker = new ProcessTracker(this.#guard)
  }

  /** By what means processes are found again; nothing before the first `ensure`. */
  get kind(): ContainmentKind | undefined {
    return this.#method?.kind
  }

  /**
   * To be awaited before each start: nothing may run unguarded.
   * @throws ManyhostError MANYHOST_START_FAILED, MANYHOST_INVALID_OPTION
   */
  async ensure(): Promise<void> {
    // It starts while the means is chosen; it may be closed by then.
    this.#guard.ensure()
    this.#method ??= await chooseContainmentMethod()
    this.#guard.ensure()
    const { parent } = this.#method
    if (parent === undefined || this.#cgroup) return
    try {
      this.#cgroup = Cgroup.create(parent)
      this.#guard.watchCgroup(this.#cgroup.path)
    } catch {
      // The system's limit of groups: this owner does with the next best.
      this.#method = { kind: 'proc' }
    }
  }

  /** @param marks `NAME=value` in the environment of what belongs to it alone */
  openScope(marks: readonly string[]): ProcessScope {
    return new ProcessScope(marks, {
      guard: this.#guard,
      census: this.#method?.kind === 'groups' ? undefined : this.#tracker,
      cgroup: this.#cgroup,
    })
  }

  /** Ends all that is left. */
  async close(): Promise<void> {
    this.pipes.close()
    await this.#cgroup?.remove()
    this.#cgroup = undefined
    await this.#guard.close()
  }
}

interface ScopeTools {
  readonly guard: Guard
  readonly census: ProcessTracker | undefined
  readonly cgroup: Cgroup | undefined
}

/** What one instance, or one launcher of tasks, starts. */
export class ProcessScope {
  readonly #marks: readonly string[]
  readonly #guard: Guard
  readonly #tracker: ProcessTracker | undefined
  readonly #cgroup: Cgroup | undefined
  #tracked: TrackedProcesses | undefined

  constructor(marks: readonly string[], { guard, census, cgroup }: ScopeTools) {
    this.#marks = marks
    this.#guard = guard
    this.#tracker = census
    this.#cgroup = tryAddChild(cgroup)
  }

  /**
   * The program that enters the scope and then becomes the given one, so that nothing can be started before. One that is
   * not there is left as it is: `spawn` then tells it as its caller expects.
   */
  enter(
    command: string,
    args: readonly string[],
    { cwd, env }: LaunchEnvironment,
  ): ContainedProgram {
    const entry = this.procsFile
    const isShells = isPassedByShell(env) && !command.startsWith('-')
    if (entry === undefined || !isShells || !isProgramFound(command, cwd, env.PATH)) {
      return { file: command, args, entersScope: false }
    }
    const pwd = env.PWD === undefined ? '-' : `+${env.PWD}`
    return {
      file: '/bin/sh',
      args: ['-c', ENTER_SCRIPT, entry, pwd, command, ...args],
      entersScope: true,
    }
  }

  /** What a process writes 0 to, in order to enter; nothing where nobody has to. */
  get procsFile(): string | undefined {
    return this.#cgroup?.procsFile
  }

  /**
   * To be called in the tick in which a leader of a process group was started.
   * @param descriptors our ends of its outputs
   */
  addLeader(pid: number, isInside: boolean, descriptors: readonly number[] = []): void {
    this.#guard.watchGroup(pid)
    if (this.#cgroup && isInside) return
    if (this.#cgroup) moveIntoCgroup(this.#cgroup, pid)
    if (!this.#tracker) return
    this.#tracked ??= this.#tracker.track(this.#marks)
    for (const fd of descriptors) this.#tracked.pipes.add(readLink(`/proc/self/fd/${fd}`))
    this.#tracker.addLeader(this.#tracked, pid)
  }

  /** The leader was reaped. */
  removeLeader(pid: number): void {
    if (this.#tracked) this.#tracker?.removeLeader(this.#tracked, pid)
  }

  /** Nobody is left in the group: the system may give its number to a stranger's. */
  forgetGroup(group: number): void {
    this.#guard.forgetGroup(group)
  }

  /** Pids of what runs in it, as far as that is known. */
  get pids(): number[] {
    const members = this.#tracked?.members.keys() ?? []
    return [...new Set([...(this.#cgroup?.pids ?? []), ...members])]
  }

  /** Looks who has joined, where that has to be looked for: an end cuts ties. */
  scan(): void {
    if (this.#tracked) this.#tracker?.scan()
  }

  /** Kills all that is left of it, for good. Resolves with whether nothing is left. */
  async close(): Promise<boolean> {
    const isEmpty = (await this.#cgroup?.remove()) ?? true
    if (!this.#tracked || !this.#tracker) return isEmpty
    const isGone = await this.#tracker.kill(this.#tracked)
    // What cannot be killed stays known to the guard.
    if (isGone) this.#tracker.untrack(this.#tracked)
    return isEmpty && isGone
  }
}

/** What it has started meanwhile enters as well. */
function moveIntoCgroup(cgroup: Cgroup, leader: number): void {
  const entered = new Set<number>()
  const enter = (pid: number): void => {
    entered.add(pid)
    try {
      cgroup.enter(pid)
    } catch {
      // It has ended already.
    }
  }
  enter(leader)
  for (let count = 0; count !== entered.size; ) {
    count = entered.size
    for (const { pid, parent } of listProcesses()) {
      if (entered.has(parent) && !entered.has(pid)) enter(pid)
    }
  }
}

function tryAddChild(cgroup: Cgroup | undefined): Cgroup | undefined {
  try {
    return cgroup?.addChild()
  } catch {
    return undefined
  }
}

/** `$0` is entered. `$1` is PWD as it was given, which the shell has changed: `+/x`, or `-` for none. Then the command. */
const ENTER_SCRIPT = `echo 0 >"$0" || exit 126; case $1 in +*) PWD=\${1#+} ;; *) unset PWD ;; esac; shift; exec "$@"`

/** Variables that a shell sets anew, or does not pass on. */
const RESET_SHELL_VARIABLES = new Set(
  'IFS OPTIND OPTARG PPID PS1 PS2 PS4 LINENO RANDOM SHELLOPTS BASHOPTS'.split(' '),
)

/** Whether a shell passes all of an environment on as it is. */
function isPassedByShell(env: Readonly<Record<string, string | undefined>>): boolean {
  return Object.keys(env).every(
    (name) => /^[A-Za-z_]\w*$/.test(name) && !RESET_SHELL_VARIABLES.has(name),
  )
}
