/**
 * All processes that one owner (a provider, a runner) starts on this machine. None of them outlives the owner, and none
 * of a scope (an instance, a launcher of tasks) outlives its scope. containment-method.ts says how far each method can
 * promise that.
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

/** A program and its arguments, for `spawn`. */
export interface ContainedProgram {
  readonly file: string
  readonly args: readonly string[]
  /** Whether the program enters the scope before it does anything else. */
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

  /** The method by which processes are found again; undefined before the first `ensure`. */
  get kind(): ContainmentKind | undefined {
    return this.#method?.kind
  }

  /**
   * Await this before each start: no process may run without a guard.
   * @throws ManyhostError MANYHOST_START_FAILED, MANYHOST_INVALID_OPTION
   */
  async ensure(): Promise<void> {
    // The guard starts while the method is chosen. It is ensured again because it may have been closed meanwhile.
    this.#guard.ensure()
    this.#method ??= await chooseContainmentMethod()
    this.#guard.ensure()
    const { parent } = this.#method
    if (parent === undefined || this.#cgroup) return
    try {
      this.#cgroup = Cgroup.create(parent)
      this.#guard.watchCgroup(this.#cgroup.path)
    } catch {
      // The system's limit of control groups is reached: this owner uses the next best method.
      this.#method = { kind: 'proc' }
    }
  }

  /** @param marks `NAME=value` each; only processes of the new scope have one of them in their environment */
  openScope(marks: readonly string[]): ProcessScope {
    return new ProcessScope(marks, {
      guard: this.#guard,
      tracker: this.#method?.kind === 'groups' ? undefined : this.#tracker,
      cgroup: this.#cgroup,
    })
  }

  /** Ends all processes that are left. */
  async close(): Promise<void> {
    this.pipes.close()
    await this.#cgroup?.remove()
    this.#cgroup = undefined
    await this.#guard.close()
  }
}

interface ScopeTools {
  readonly guard: Guard
  readonly tracker: ProcessTracker | undefined
  readonly cgroup: Cgroup | undefined
}

/** The processes that one instance, or one launcher of tasks, starts. */
export class ProcessScope {
  readonly #marks: readonly string[]
  readonly #guard: Guard
  readonly #tracker: ProcessTracker | undefined
  readonly #cgroup: Cgroup | undefined
  #tracked: TrackedProcesses | undefined

  constructor(marks: readonly string[], { guard, tracker, cgroup }: ScopeTools) {
    this.#marks = marks
    this.#guard = guard
    this.#tracker = tracker
    this.#cgroup = tryAddChild(cgroup)
  }

  /**
   * The program to spawn for a command: it enters the scope and then becomes the command, so that nothing can be started
   * before that. A command that does not exist is answered as it is, so that `spawn` fails as its caller expects.
   */
  enter(
    command: string,
    args: readonly string[],
    { cwd, env }: LaunchEnvironment,
  ): ContainedProgram {
    const entry = this.procsFile
    const canUseShell = isPassedByShell(env) && !command.startsWith('-')
    if (entry === undefined || !canUseShell || !isProgramFound(command, cwd, env.PATH)) {
      return { file: command, args, entersScope: false }
    }
    const pwd = env.PWD === undefined ? '-' : `+${env.PWD}`
    return {
      file: '/bin/sh',
      args: ['-c', ENTER_SCRIPT, entry, pwd, command, ...args],
      entersScope: true,
    }
  }

  /** A process enters the scope by writing 0 to this file; undefined where the method has no such file. */
  get procsFile(): string | undefined {
    return this.#cgroup?.procsFile
  }

  /**
   * Call this in the tick in which the leader of a process group was started.
   * @param isInside whether the leader has entered the scope by itself
   * @param descriptors our ends of the pipes for its outputs
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

  /** Call this when the leader was reaped. */
  removeLeader(pid: number): void {
    if (this.#tracked) this.#tracker?.removeLeader(this.#tracked, pid)
  }

  /** Call this when a group has no members any more: the system may give its number to a group of somebody else. */
  forgetGroup(group: number): void {
    this.#guard.forgetGroup(group)
  }

  /** Pids of the running processes of the scope, as far as they are known. */
  get pids(): number[] {
    const members = this.#tracked?.members.keys() ?? []
    return [...new Set([...(this.#cgroup?.pids ?? []), ...members])]
  }

  /** Looks for new members, where the method needs that. Call it before a member ends, because its end cuts ties. */
  scan(): void {
    if (this.#tracked) this.#tracker?.scan()
  }

  /** Kills all processes of the scope that are left. Resolves with whether none is left. */
  async close(): Promise<boolean> {
    const isEmpty = (await this.#cgroup?.remove()) ?? true
    if (!this.#tracked || !this.#tracker) return isEmpty
    const isGone = await this.#tracker.kill(this.#tracked)
    // A process that cannot be killed stays known to the guard.
    if (isGone) this.#tracker.untrack(this.#tracked)
    return isEmpty && isGone
  }
}

/** Moves the leader, and all processes that it has started meanwhile. */
function moveIntoCgroup(cgroup: Cgroup, leader: number): void {
  const entered = new Set<number>()
  const enter = (pid: number): void => {
    entered.add(pid)
    try {
      cgroup.enter(pid)
    } catch {
      // The process has ended already.
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

/**
 * `$0` is the file to write to. `$1` is the value of PWD, because the shell has changed that variable: `+/x`, or `-` for
 * none. The command and its arguments follow.
 */
const ENTER_SCRIPT = `echo 0 >"$0" || exit 126; case $1 in +*) PWD=\${1#+} ;; *) unset PWD ;; esac; shift; exec "$@"`

/** Variables that a shell sets itself, or does not pass on. */
const RESET_SHELL_VARIABLES = new Set(
  'IFS OPTIND OPTARG PPID PS1 PS2 PS4 LINENO RANDOM SHELLOPTS BASHOPTS'.split(' '),
)

/** Whether a shell passes the whole environment on without a change. */
function isPassedByShell(env: Readonly<Record<string, string | undefined>>): boolean {
  return Object.keys(env).every(
    (name) => /^[A-Za-z_]\w*$/.test(name) && !RESET_SHELL_VARIABLES.has(name),
  )
}
