/** Where one task runs at a time: a launcher, replaced when it is used up. */
import { constants } from 'node:os'
import type { Containment, Scope } from '../../posix/containment.ts'
import { closePipe, type Pipe } from '../../posix/pipes.ts'
import { membersOf } from './groups.ts'
import { type Ended, type Job, Launcher, type Sink } from './launcher.ts'

export class Place {
  /** 1, 2, ...; `{slot}` and `TASK_SLOT`. */
  readonly slot: number
  /** Tasks that were run since somebody looked for what they left behind. */
  isSoiled = false
  readonly #env: Readonly<Record<string, string>>
  readonly #containment: Containment
  readonly #mark: string
  #scope: Scope | undefined
  #launcher: Launcher | undefined
  #isWorn = false
  /** A signal came while the launcher was made. */
  #isInterrupted = false

  /** @param mark in the environment of all that this runner starts: `NAME=value` */
  constructor(
    slot: number,
    env: Readonly<Record<string, string>>,
    containment: Containment,
    mark: string,
  ) {
    this.slot = slot
    this.#mark = `${mark}${slot}`
    const [name = '', ...value] = this.#mark.split('=')
    this.#env = { ...env, [name]: value.join('=') }
    this.#containment = containment
  }

  /** The process group of what runs here. */
  get group(): number | undefined {
    return this.#launcher?.isAlive ? this.#launcher.pid : undefined
  }

  /** Whether anybody but the launcher is in the group, as far as that is known. */
  get isInhabited(): boolean {
    const { group } = this
    return group !== undefined && membersOf(new Set([group])).has(group)
  }

  /** Those that have left the group, as far as that is known. */
  get strays(): readonly number[] {
    return this.#launcher?.isAlive ? (this.#scope?.pids ?? []) : []
  }

  async run(job: Job, sink: Sink): Promise<Ended> {
    this.#isInterrupted = false
    const launcher = this.#launcher?.isAlive ? this.#launcher : await this.#make()
    if (this.#isInterrupted) return { status: 128 + constants.signals.SIGINT }
    this.isSoiled = true
    const ended = await launcher.run(job, sink)
    if (this.#isWorn || !launcher.isAlive) await this.#discard()
    return ended
  }

  signal(name: NodeJS.Signals): void {
    if (this.#launcher) this.#launcher.signal(name)
    else this.#isInterrupted = true
  }

  resume(): void {
    this.#launcher?.resume()
  }

  /** What is left in the group when the present task has ended is killed, and the launcher with it. */
  wear(): void {
    this.#isWorn = true
  }

  /** At once, when no task runs here. */
  async clear(): Promise<void> {
    if (this.#launcher?.isBusy) this.wear()
    else await this.#discard()
  }

  async close(): Promise<void> {
    await this.#discard()
  }

  async #make(): Promise<Launcher> {
    await this.#discard()
    const pipes = await this.#prepare()
    const scope = this.#containment.open([this.#mark])
    const launcher = new Launcher(this.#env, { entry: scope.entry, pipes })
    if (launcher.pid !== undefined) {
      const { pid } = launcher
      const isInside = scope.entry !== undefined
      scope.started(
        pid,
        isInside,
        pipes.map(({ readEnd }) => readEnd),
      )
      void launcher.exited.then(() => scope.reaped(pid))
    }
    this.#scope = scope
    this.#launcher = launcher
    return launcher
  }

  /** Pipes for standard output and error. Without a guard or a means tasks still run: their provider has its own. */
  async #prepare(): Promise<readonly Pipe[]> {
    try {
      await this.#containment.ensure()
    } catch {
      // The runner has said so.
    }
    const { pipes } = this.#containment
    const taken = await Promise.all([pipes.take(), pipes.take()])
    const found = taken.filter((pipe) => pipe !== undefined)
    if (found.length === 2) return found
    found.forEach(closePipe)
    return []
  }

  async #discard(): Promise<void> {
    const [launcher, scope] = [this.#launcher, this.#scope]
    this.#launcher = undefined
    this.#scope = undefined
    this.#isWorn = false
    if (!launcher) return
    // One that died by itself may have left others in its group, which is still its own until they are gone.
    const group = launcher.pid
    if (group !== undefined && !launcher.isAlive) killGroup(group)
    scope?.look()
    await launcher.close()
    await scope?.close()
    if (group !== undefined) scope?.forget(group)
  }
}

function killGroup(group: number): void {
  try {
    process.kill(-group, 'SIGKILL')
  } catch {
    // Nobody left.
  }
}
