/** The process groups of one instance, each led by a child that the instance started. */
import type { Readable } from 'node:stream'
import type { Exit } from '../../src/core/provider.ts'
import { now, sleep } from '../../src/core/time.ts'
import type { Scope } from '../../src/posix/containment.ts'
import type { PipeStock } from '../../src/posix/pipes.ts'
import { exitOf, type Launch, launch, outputRead, type Started } from './launch.ts'
import { hasRunningMember } from './members.ts'

/** How long a killed group may still be seen where its zombies cannot be told from the living, in ms. */
const ZOMBIE_PATIENCE = 500

/** From this pause on it is worth to look who it is that is left, which costs more than to ask whether. */
const LOOK_FROM = 8

/** Whether what a leader leaves in its group lives on without it. */
export type Rest = 'dies' | 'stays'

export class Family {
  readonly #scope: Scope
  readonly #pipes: PipeStock
  readonly #groups = new Set<Group>()

  constructor(scope: Scope, pipes: PipeStock) {
    this.#scope = scope
    this.#pipes = pipes
  }

  /** @throws ManyhostError MANYHOST_START_FAILED */
  async launch(what: Launch, rest: Rest): Promise<Group> {
    let group: Group | undefined
    await launch(what, { scope: this.#scope, pipes: this.#pipes }, (started) => {
      group = new Group(started, rest)
      this.#groups.add(group)
    })
    const made = group as unknown as Group
    void made.exit.then(() => {
      if (!made.isAlive) this.#forget(made)
      if (made.isDone) this.#groups.delete(made)
    })
    return made
  }

  signal(name: NodeJS.Signals): void {
    for (const group of this.#groups) group.signal(name)
  }

  /** Resolves when nothing of any group is left; it ends nothing. */
  async gone(): Promise<void> {
    const leave = async (group: Group): Promise<void> => {
      await group.gone()
      this.#forget(group)
      this.#groups.delete(group)
    }
    await Promise.all([...this.#groups].map(leave))
  }

  /** From here on the system may give the number to a stranger's group. */
  #forget(group: Group): void {
    group.isOver = true
    this.#scope.forget(group.id)
  }
}

export class Group {
  readonly id: number
  /** Resolves when the leader has exited and what it wrote was read. */
  readonly exit: Promise<Exit>
  /** Nobody is left in it: it must not be signalled any more. */
  isOver = false
  readonly #outputs: readonly Readable[]
  #killedAt: number | undefined

  constructor({ child, pid, outputs }: Started, rest: Rest) {
    this.id = pid
    this.#outputs = outputs
    this.exit = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        if (rest === 'dies') this.signal('SIGKILL')
        void outputRead(outputs).then(() => resolve(exitOf(code, signal)))
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

  async gone(): Promise<void> {
    await this.exit
    for (let pause = 1; this.isAlive; pause = Math.min(2 * pause, 64)) {
      const runs = pause < LOOK_FROM || (await hasRunningMember(this.id))
      if (runs === false) break
      if (runs === undefined && this.#killedFor() > ZOMBIE_PATIENCE) break
      await sleep(pause)
    }
    // One who left the group may hold the pipes, and they would hold our process.
    for (const output of this.#outputs) output.destroy()
  }

  #killedFor(): number {
    return this.#killedAt === undefined ? 0 : now() - this.#killedAt
  }
}
