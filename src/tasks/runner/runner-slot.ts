/** One slot of a runner: it runs one task at a time, by a launcher that is replaced when a task may have left something behind. */
import { constants } from 'node:os'
import type { Containment, ProcessScope } from '../../posix/containment.ts'
import { findGroupMembers } from '../../posix/group-members.ts'
import { closePipe, type Pipe } from '../../posix/pipes.ts'
import { exitStatusOfSignal } from '../model/exit-status.ts'
import type { LauncherSink } from './command-output.ts'
import { type LaunchCommand, Launcher, type LaunchResult } from './launcher.ts'

export class RunnerSlot {
  /** 1, 2, ...; `{slot}` and `TASK_SLOT`. */
  readonly number: number
  /** Whether a task has run here since the slot was last checked for processes that were left behind. */
  hasRunSinceCheck = false
  readonly #env: Readonly<Record<string, string>>
  readonly #containment: Containment
  readonly #mark: string
  #scope: ProcessScope | undefined
  #launcher: Launcher | undefined
  #isReplacementDue = false
  /** Whether a signal came while the launcher was created. */
  #isInterrupted = false

  /** @param mark `NAME=value`, in the environment of all processes of this runner; the number of the slot is added to it */
  constructor(
    number: number,
    env: Readonly<Record<string, string>>,
    containment: Containment,
    mark: string,
  ) {
    this.number = number
    this.#mark = `${mark}${number}`
    const [name = '', ...value] = this.#mark.split('=')
    this.#env = { ...env, [name]: value.join('=') }
    this.#containment = containment
  }

  /** The process group of the tasks of this slot; undefined while it has no launcher. */
  get processGroup(): number | undefined {
    return this.#launcher?.isAlive ? this.#launcher.pid : undefined
  }

  /** Whether processes other than the launcher are in the group, as far as that is known. */
  get hasGroupMembers(): boolean {
    const { processGroup: group } = this
    return group !== undefined && findGroupMembers(new Set([group])).has(group)
  }

  /** Pids of processes that have left the group, as far as that is known. */
  get strays(): readonly number[] {
    return this.#launcher?.isAlive ? (this.#scope?.pids ?? []) : []
  }

  async run(command: LaunchCommand, sink: LauncherSink): Promise<LaunchResult> {
    this.#isInterrupted = false
    const launcher = this.#launcher?.isAlive ? this.#launcher : await this.#createLauncher()
    if (this.#isInterrupted) return { status: exitStatusOfSignal(constants.signals.SIGINT) }
    this.hasRunSinceCheck = true
    const ended = await launcher.run(command, sink)
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

  /** When the present task has ended, the launcher is killed with all that is left in its group. */
  markForReplacement(): void {
    this.#isReplacementDue = true
  }

  /** As `markForReplacement`; at once if no task runs here. */
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

  /** Pipes for standard output and error; none without a containment. Tasks run all the same: the provider contains the runner. */
  async #takePipes(): Promise<readonly Pipe[]> {
    try {
      await this.#containment.ensure()
    } catch {
      // `Runner.prepare` has reported it.
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
    // A launcher that died by itself may have left processes in its group. While there are some, the system gives the number
    // of the group to no other.
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
    // The group is empty.
  }
}
