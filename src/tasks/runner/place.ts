/** Where one task runs at a time: a launcher, replaced when it is used up. */
import { membersOf } from './groups.ts'
import type { Guard } from './guard.ts'
import { type Ended, type Job, Launcher, type Sink } from './launcher.ts'

export class Place {
  /** 1, 2, ...; `{slot}` and `TASK_SLOT`. */
  readonly slot: number
  /** Tasks that were run since somebody looked for what they left behind. */
  isSoiled = false
  readonly #env: Readonly<Record<string, string>>
  readonly #guard: Guard
  #launcher: Launcher | undefined
  #isWorn = false

  constructor(slot: number, env: Readonly<Record<string, string>>, guard: Guard) {
    this.slot = slot
    this.#env = env
    this.#guard = guard
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

  async run(job: Job, sink: Sink): Promise<Ended> {
    const launcher = this.#ready()
    this.isSoiled = true
    const ended = await launcher.run(job, sink)
    if (this.#isWorn || !launcher.isAlive) await this.#discard()
    return ended
  }

  signal(name: NodeJS.Signals): void {
    this.#launcher?.signal(name)
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

  #ready(): Launcher {
    if (this.#launcher?.isAlive) return this.#launcher
    this.#isWorn = false
    this.#launcher = new Launcher(this.#env)
    if (this.#launcher.pid !== undefined) this.#guard.watch(this.#launcher.pid)
    return this.#launcher
  }

  async #discard(): Promise<void> {
    const launcher = this.#launcher
    this.#launcher = undefined
    this.#isWorn = false
    if (!launcher) return
    // One that died by itself may have left others in its group, which is still its own until they are gone.
    const group = launcher.pid
    if (group !== undefined && !launcher.isAlive) killGroup(group)
    await launcher.close()
    if (group !== undefined) this.#guard.forget(group)
  }
}

function killGroup(group: number): void {
  try {
    process.kill(-group, 'SIGKILL')
  } catch {
    // Nobody left.
  }
}
