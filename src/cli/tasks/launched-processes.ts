/** The processes that a launcher such as `srun` starts, each with an agent that connects to this program. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { describeError } from '../../core/errors.ts'
import { resolveWithin } from '../../core/time.ts'
import { inheritedEnvironment } from '../../posix/environment.ts'

/** From TERM to KILL, in ms. */
const KILL_DELAY_MS = 15_000

/** How much of the output of a launcher is kept, in characters: its last line says why it ended. */
const MAX_OUTPUT_LENGTH = 2_000

/** One MPI does not pass the environment on unless it is asked to. */
const OPEN_MPI_ENVIRONMENT = { OMPI_MCA_mca_base_env_list: 'MANYHOST_AGENT_KEY' }

export interface LauncherExit {
  /** The launcher command, how it ended, and the last line of its output. */
  readonly message: string
  readonly isSuccess: boolean
}

export class LaunchedProcesses {
  readonly #launcher: readonly string[]
  readonly #agent: readonly string[]
  readonly #key: string
  readonly #onExit: (exit: LauncherExit) => void
  readonly #children = new Set<ChildProcess>()
  #isClosed = false
  readonly #onProcessExit = (): void => this.#kill('SIGTERM')

  /**
   * `launcher` and `agent` are the words of their commands. `key` is the key of the hub. `onExit` is called when a launcher
   * has ended, unless `close` ended it.
   */
  constructor(
    launcher: readonly string[],
    agent: readonly string[],
    key: string,
    onExit: (exit: LauncherExit) => void,
  ) {
    this.#launcher = launcher
    this.#agent = agent
    this.#key = key
    this.#onExit = onExit
    // However this process ends, as far as it can know, its launchers end with it.
    process.on('exit', this.#onProcessExit)
  }

  start(): void {
    const [command = '', ...args] = this.#launcher
    const child = spawn(command, [...args, ...this.#agent], {
      stdio: ['ignore', 'pipe', 'pipe'],
      // A process group of its own: a script that launches does not pass signals on to its children.
      detached: true,
      // The key is not an argument: every user can read the arguments of a process.
      env: { ...inheritedEnvironment(), ...OPEN_MPI_ENVIRONMENT, MANYHOST_AGENT_KEY: this.#key },
    })
    this.#children.add(child)
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        output = `${output}${chunk}`.slice(-MAX_OUTPUT_LENGTH)
      })
    }
    const handleEnd = (how: string, isSuccess: boolean): void => {
      if (!this.#children.delete(child) || this.#isClosed) return
      const line = lastLine(output)
      const message = `${this.#launcher.join(' ')} ${how}${line ? `: ${line}` : ''}`
      this.#onExit({ message, isSuccess })
    }
    child.once('error', (error) => handleEnd(`cannot be started: ${describeError(error)}`, false))
    child.once('close', (code, signal) => handleEnd(`ended with ${code ?? signal}`, code === 0))
  }

  /** No exit is reported from now on. */
  ignoreExits(): void {
    this.#isClosed = true
  }

  /** Ends all launchers. A launcher passes TERM on, and its agents have lost their hub by then. */
  async close(): Promise<void> {
    this.ignoreExits()
    const closed = Promise.all([...this.#children].map((child) => once(child, 'close')))
    this.#kill('SIGTERM')
    if ((await resolveWithin(KILL_DELAY_MS, closed)) === undefined) this.#kill('SIGKILL')
    process.off('exit', this.#onProcessExit)
  }

  #kill(signal: NodeJS.Signals): void {
    for (const { pid } of this.#children) {
      try {
        if (pid !== undefined) process.kill(-pid, signal)
      } catch {
        // The group has ended already.
      }
    }
  }
}

/** The last line with a word: Open MPI draws a frame around its messages. */
function lastLine(output: string): string | undefined {
  return output
    .split('\n')
    .filter((line) => /\w/.test(line))
    .at(-1)
}
