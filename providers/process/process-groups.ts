/** The process groups of one instance, each led by a child that the instance started. */
import type { Readable } from 'node:stream'
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

/** How long a killed group may still be seen where its zombies cannot be told from the living, in ms. */
const ZOMBIE_TIMEOUT = 500

/** From this pause on it is worth to look who it is that is left, which costs more than to ask whether. */
const MIN_LOOK_PAUSE = 8

/** Whether what a leader leaves in its group lives on without it. */
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
  async launch(what: ProcessLaunch, rest: GroupOnExit): Promise<ProcessGroup> {
    let group: ProcessGroup | undefined
    await launchProcess(what, { scope: this.#scope, pipes: this.#pipes }, (started) => {
      group = new ProcessGroup(started, rest)
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

  /** Resolves when nothing of any group is left; it ends nothing. */
  async whenGone(): Promise<void> {
    const leave = async (group: ProcessGroup): Promise<void> => {
      await group.whenGone()
      this.#markOver(group)
      this.#groups.delete(group)
    }
    await Promise.all([...this.#groups].map(leave))
  }

  /** From here on the system may give the number to a stranger's group. */
  #markOver(group: ProcessGroup): void {
    group.isOver = true
    this.#scope.forgetGroup(group.id)
  }
}

export class ProcessGroup {
  readonly id: number
  /** Resolves when the leader has exited and what it wrote was read. */
  readonly exit: Promise<Exit>
  /** Nobody is left in it: it must not be signalled any more. */
  isOver = false
  readonly #outputs: readonly Readable[]
  #killedAt: number | undefined

  constructor({ child, pid, outputs }: StartedProcess, rest: GroupOnExit) {
    this.id = pid
    this.#outputs = outputs
    this.exit = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        if (rest === 'dies') this.signal('SIGKILL')
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

  /** Over, and nobody holds its pipes either, as one who left the group may. */
  get isDone(): boolean {
    return this.isOver && this.#outputs.every(({ closed }) => closed)
  }

  signal(name: NodeJS.Signals): void {
    if (this.isOver) return
    if (name === 'SIGKILL') this.#killedAt ??= now()
    try {
      process.kill(-this.id, name)
    } catch {
      // Nobody left, or nobody that we may signal: `gone` sees to it.
    }
  }

  async whenGone(): Promise<void> {
    await this.exit
    for (let pause = 1; this.isAlive; pause = Math.min(2 * pause, 64)) {
      const runs = pause < MIN_LOOK_PAUSE || (await hasRunningMember(this.id))
      if (runs === false) break
      if (runs === undefined && this.#msSinceKill() > ZOMBIE_TIMEOUT) break
      await sleep(pause)
    }
    // One who left the group may hold the pipes, and they would hold our process.
    for (const output of this.#outputs) output.destroy()
  }

  #msSinceKill(): number {
    return this.#killedAt === undefined ? 0 : now() - this.#killedAt
  }
}
