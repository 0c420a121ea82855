/** Where one task runs at a time: a launcher, replaced when it is used up. */
import { constants } from 'node:os'
import type { Containment, ProcessScope } from '../../posix/containment.ts'
import { findGroupMembers } from '../../posix/group-members.ts'
import { closePipe, type Pipe } from '../../posix/pipes.ts'
import { type LaunchCommand, Launcher, type LauncherSink, type LaunchResult } from './launcher.ts'

export class RunnerSlot {
  /** 1, 2, ...; `{slot}` and `TASK_SLOT`. */
  readonly number: number
  /** Tasks that were run since somebody looked for what they left behind. */
  hasRunSinceCheck = false
  readonly #env: Readonly<Record<string, string>>
  readonly #containment: Containment
  readonly #mark: string
  #scope: ProcessScope | undefined
  #launcher: Launcher | undefined
  #isReplacementDue = false
  /** A signal came while the launcher was made. */
  #isInterrupted = false

  /** @param mark in the environment of all that this runner starts: `NAME=value` */
  constructor(
    slot: number,
    env: Readonly<Record<string, string>>,
    containment: Containment,
    mark: string,
  ) {
    this.number = slot
    this.#mark = `${mark}${slot}`
    const [name = '', ...value] = this.#mark.split('=')
    this.#env = { ...env, [name]: value.join('=') }
    this.#containment = containment
  }

  /** The process group of what runs here. */
  get processGroup(): number | undefined {
    return this.#launcher?.isAlive ? this.#launcher.pid : undefined
  }

  /** Whether anybody but the launcher is in the group, as far as that is known. */
  get hasGroupMembers(): boolean {
    const { processGroup: group } = this
    return group !== undefined && findGroupMembers(new Set([group])).has(group)
  }

  /** Those that have left the group, as far as that is known. */
  get strays(): readonly number[] {
    return this.#launcher?.isAlive ? (this.#scope?.pids ?? []) : []
  }

  async run(job: LaunchCommand, sink: LauncherSink): Promise<LaunchResult> {
    this.#isInterrupted = false
    const launcher = this.#launcher?.isAlive ? this.#launcher : await this.#createLauncher()
    if (this.#isInterrupted) return { status: 128 + constants.signals.SIGINT }
    this.hasRunSinceCheck = true
    const ended = await launcher.run(job, sink)
    if (this.#isReplacementDue || !launcher.isAlive) await this.#closeLauncher()
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
  markForReplacement(): void {
    this.#isReplacementDue = true
  }

  /** At once, when no task runs here. */
  async replaceLauncher(): Promise<void> {
    if (this.#launcher?.isBusy) this.markForReplacement()
    else await this.#closeLauncher()
  }

  async close(): Promise<void> {
    await this.#closeLauncher()
  }

  async #createLauncher(): Promise<Launcher> {
    await this.#closeLauncher()
    const pipes = await this.#takePipes()
    const scope = this.#containment.openScope([this.#mark])
    const launcher = new Launcher(this.#env, { cgroupEntry: scope.procsFile, pipes })
    if (launcher.pid !== undefined) {
      const { pid } = launcher
      const isInside = scope.procsFile !== undefined
      scope.addLeader(
        pid,
        isInside,
        pipes.map(({ readEnd }) => readEnd),
      )
      void launcher.exited.then(() => scope.removeLeader(pid))
    }
    this.#scope = scope
    this.#launcher = launcher
    return launcher
  }

  /** Pipes for standard output and error. Without a guard or a means tasks still run: their provider has its own. */
  async #takePipes(): Promise<readonly Pipe[]> {
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

  async #closeLauncher(): Promise<void> {
    const [launcher, scope] = [this.#launcher, this.#scope]
    this.#launcher = undefined
    this.#scope = undefined
    this.#isReplacementDue = false
    if (!launcher) return
    // One that died by itself may have left others in its group, which is still its own until they are gone.
    const group = launcher.pid
    if (group !== undefined && !launcher.isAlive) killGroup(group)
    scope?.scan()
    await launcher.close()
    await scope?.close()
    if (group !== undefined) scope?.forgetGroup(group)
  }
}

function killGroup(group: number): void {
  try {
    process.kill(-group, 'SIGKILL')
  } catch {
    // Nobody left.
  }
}
