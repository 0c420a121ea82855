/**
 * All that one owner (a provider, a runner) starts on this machine. Nothing of it outlives the owner, and nothing of a
 * scope (an instance, a launcher of tasks) outlives the scope. means.ts says how far that can be promised.
 */
import { Census, type Household } from './census.ts'
import { Cgroup } from './cgroup.ts'
import { Guard, type GuardOptions } from './guard.ts'
import { chooseMeans, type Kind, type Means } from './means.ts'
import { PipeStock } from './pipes.ts'
import { linkOf, listProcesses } from './proc.ts'
import { isProgram } from './programs.ts'

/** A program and its arguments, as they are given to `spawn`. */
export interface Program {
  readonly file: string
  readonly args: readonly string[]
  /** It enters the scope before it does anything else. */
  readonly isInside: boolean
}

interface Environment {
  readonly cwd: string
  readonly env: Readonly<Record<string, string | undefined>>
}

export class Containment {
  readonly pipes: PipeStock
  readonly #guard: Guard
  readonly #census: Census
  #means: Means | undefined
  #cgroup: Cgroup | undefined

  constructor(options: GuardOptions) {
    this.#guard = new Guard(options)
    this.pipes = new PipeStock(this.#guard)
    this.#census = new Census(this.#guard)
  }

  /** By what means processes are found again; nothing before the first `ensure`. */
  get kind(): Kind | undefined {
    return this.#means?.kind
  }

  /**
   * To be awaited before each start: nothing may run unguarded.
   * @throws ManyhostError MANYHOST_START_FAILED, MANYHOST_INVALID_OPTION
   */
  async ensure(): Promise<void> {
    // It starts while the means is chosen; it may be closed by then.
    this.#guard.ensure()
    this.#means ??= await chooseMeans()
    this.#guard.ensure()
    const { parent } = this.#means
    if (parent === undefined || this.#cgroup) return
    try {
      this.#cgroup = Cgroup.of(parent)
      this.#guard.watchCgroup(this.#cgroup.path)
    } catch {
      // The system's limit of groups: this owner does with the next best.
      this.#means = { kind: 'proc' }
    }
  }

  /** @param marks `NAME=value` in the environment of what belongs to it alone */
  open(marks: readonly string[]): Scope {
    return new Scope(marks, {
      guard: this.#guard,
      census: this.#means?.kind === 'groups' ? undefined : this.#census,
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

interface Tools {
  readonly guard: Guard
  readonly census: Census | undefined
  readonly cgroup: Cgroup | undefined
}

/** What one instance, or one launcher of tasks, starts. */
export class Scope {
  readonly #marks: readonly string[]
  readonly #guard: Guard
  readonly #census: Census | undefined
  readonly #cgroup: Cgroup | undefined
  #household: Household | undefined

  constructor(marks: readonly string[], { guard, census, cgroup }: Tools) {
    this.#marks = marks
    this.#guard = guard
    this.#census = census
    this.#cgroup = addGroup(cgroup)
  }

  /**
   * The program that enters the scope and then becomes the given one, so that nothing can be started before. One that is
   * not there is left as it is: `spawn` then tells it as its caller expects.
   */
  enter(command: string, args: readonly string[], { cwd, env }: Environment): Program {
    const entry = this.entry
    const isShells = isKept(env) && !command.startsWith('-')
    if (entry === undefined || !isShells || !isProgram(command, cwd, env.PATH)) {
      return { file: command, args, isInside: false }
    }
    const pwd = env.PWD === undefined ? '-' : `+${env.PWD}`
    return {
      file: '/bin/sh',
      args: ['-c', ENTER, entry, pwd, command, ...args],
      isInside: true,
    }
  }

  /** What a process writes 0 to, in order to enter; nothing where nobody has to. */
  get entry(): string | undefined {
    return this.#cgroup?.entry
  }

  /**
   * To be called in the tick in which a leader of a process group was started.
   * @param descriptors our ends of its outputs
   */
  started(pid: number, isInside: boolean, descriptors: readonly number[] = []): void {
    this.#guard.watch(pid)
    if (this.#cgroup && isInside) return
    if (this.#cgroup) enterLate(this.#cgroup, pid)
    if (!this.#census) return
    this.#household ??= this.#census.open(this.#marks)
    for (const fd of descriptors) this.#household.pipes.add(linkOf(`/proc/self/fd/${fd}`))
    this.#census.started(this.#household, pid)
  }

  /** The leader was reaped. */
  reaped(pid: number): void {
    if (this.#household) this.#census?.ended(this.#household, pid)
  }

  /** Nobody is left in the group: the system may give its number to a stranger's. */
  forget(group: number): void {
    this.#guard.forget(group)
  }

  /** Pids of what runs in it, as far as that is known. */
  get pids(): number[] {
    const members = this.#household?.members.keys() ?? []
    return [...new Set([...(this.#cgroup?.pids ?? []), ...members])]
  }

  /** Looks who has joined, where that has to be looked for: an end cuts ties. */
  look(): void {
    if (this.#household) this.#census?.look()
  }

  /** Kills all that is left of it, for good. Resolves with whether nothing is left. */
  async close(): Promise<boolean> {
    const isEmpty = (await this.#cgroup?.remove()) ?? true
    if (!this.#household || !this.#census) return isEmpty
    const isGone = await this.#census.kill(this.#household)
    // What cannot be killed stays known to the guard.
    if (isGone) this.#census.forget(this.#household)
    return isEmpty && isGone
  }
}

/** What it has started meanwhile enters as well. */
function enterLate(cgroup: Cgroup, leader: number): void {
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

function addGroup(cgroup: Cgroup | undefined): Cgroup | undefined {
  try {
    return cgroup?.add()
  } catch {
    return undefined
  }
}

/** `$0` is entered. `$1` is PWD as it was given, which the shell has changed: `+/x`, or `-` for none. Then the command. */
const ENTER = `echo 0 >"$0" || exit 126; case $1 in +*) PWD=\${1#+} ;; *) unset PWD ;; esac; shift; exec "$@"`

/** Variables that a shell sets anew, or does not pass on. */
const CHANGED = new Set(
  'IFS OPTIND OPTARG PPID PS1 PS2 PS4 LINENO RANDOM SHELLOPTS BASHOPTS'.split(' '),
)

/** Whether a shell passes all of an environment on as it is. */
function isKept(env: Readonly<Record<string, string | undefined>>): boolean {
  return Object.keys(env).every((name) => /^[A-Za-z_]\w*$/.test(name) && !CHANGED.has(name))
}
