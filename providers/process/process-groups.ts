/** The process groups of one instance. The leader of each is a child that the instance started. */
import type { Readable } from 'node:stream'
import { exponentialDelay } from '../../src/core/backoff.ts'
import type { Exit } from '../../src/core/provider.ts'
import { now, sleep } from '../../src/core/time.ts'
import type { ProcessScope } from '../../src/posix/containment.ts'
import { hasRunningMember } from '../../src/posix/group-members.ts'
import type { PipePool } from '../../src/posix/pipes.ts'
import {
  exitOfProcess,
  launchProcess,
  type ProcessLaunch,
  type StartedProcess,
  whenOutputRead,
} from './launch.ts'

/** How long a killed group may still exist, where zombies cannot be distinguished from running processes, in ms. */
const ZOMBIE_TIMEOUT = 500

/** The pause between two looks at a group that has to end, in ms. */
const LOOK_PAUSE = { min: 1, max: 64 }

/** Number of looks by a signal alone. Later looks also read /proc to find out whether only zombies are left. */
const MAX_SIGNAL_LOOKS = 3

/** Whether the other processes of a group are killed when its leader ends. */
export type GroupOnExit = 'dies' | 'stays'

export class ProcessGroups {
  readonly #scope: ProcessScope
  readonly #pipes: PipePool
  readonly #groups = new Set<ProcessGroup>()

  constructor(scope: ProcessScope, pipes: PipePool) {
    this.#scope = scope
    this.#pipes = pipes
  }

  /** @throws ManyhostError MANYHOST_START_FAILED */
  async launch(what: ProcessLaunch, groupOnExit: GroupOnExit): Promise<ProcessGroup> {
    let group: ProcessGroup | undefined
    await launchProcess(what, { scope: this.#scope, pipes: this.#pipes }, (started) => {
      group = new ProcessGroup(started, groupOnExit)
      this.#groups.add(group)
    })
    const made = group as unknown as ProcessGroup
    void made.exit.then(() => {
      if (!made.isAlive) this.#markOver(made)
      if (made.isDone) this.#groups.delete(made)
    })
    return made
  }

  signal(name: NodeJS.Signals): void {
    for (const group of this.#groups) group.signal(name)
  }

  /** Resolves when nothing of any group is left. It does not end anything itself. */
  async whenGone(): Promise<void> {
    const waitFor = async (group: ProcessGroup): Promise<void> => {
      await group.whenGone()
      this.#markOver(group)
      this.#groups.delete(group)
    }
    await Promise.all([...this.#groups].map(waitFor))
  }

  /** From here on the system may give the number to a group of somebody else. */
  #markOver(group: ProcessGroup): void {
    group.isOver = true
    this.#scope.forgetGroup(group.id)
  }
}

export class ProcessGroup {
  readonly id: number
  /** Resolves when the leader has exited and what it wrote was read. */
  readonly exit: Promise<Exit>
  /** Nobody is left in the group: it must not be signalled any more. */
  isOver = false
  readonly #outputs: readonly Readable[]
  #killedAt: number | undefined

  constructor({ child, pid, outputs }: StartedProcess, groupOnExit: GroupOnExit) {
    this.id = pid
    this.#outputs = outputs
    this.exit = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        if (groupOnExit === 'dies') this.signal('SIGKILL')
        void whenOutputRead(outputs).then(() => resolve(exitOfProcess(code, signal)))
      })
    })
  }

  get isAlive(): boolean {
    if (this.isOver) return false
    try {
      return process.kill(-this.id, 0)
    } catch (error) {
      return (error as NodeJS.ErrnoException).code !== 'ESRCH'
    }
  }

  /** Whether the group is over and its pipes are closed. A process that has left the group may still hold them. */
  get isDone(): boolean {
    return this.isOver && this.#outputs.every(({ closed }) => closed)
  }

  signal(name: NodeJS.Signals): void {
    if (this.isOver) return
    if (name === 'SIGKILL') this.#killedAt ??= now()
    try {
      process.kill(-this.id, name)
    } catch {
      // Nobody is left, or nobody that we may signal: `whenGone` finds out.
    }
  }

  async whenGone(): Promise<void> {
    await this.exit
    for (let looks = 0; this.isAlive; looks++) {
      const isRunning = looks < MAX_SIGNAL_LOOKS || (await hasRunningMember(this.id))
      if (isRunning === false) break
      if (isRunning === undefined && this.#msSinceKill() > ZOMBIE_TIMEOUT) break
      await sleep(exponentialDelay(looks, LOOK_PAUSE))
    }
    // A process that has left the group may hold the pipes, and open pipes keep our own process alive.
    for (const output of this.#outputs) output.destroy()
  }

  #msSinceKill(): number {
    return this.#killedAt === undefined ? 0 : now() - this.#killedAt
  }
}
