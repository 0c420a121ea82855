/** The life that instances of all engines share: it begins once, may be asked to stop, and ends once. */
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import type { Exit, ListenOn, StartSpec, StartupContext } from '../../src/core/provider.ts'
import { createSafeContext } from '../../src/core/startup-context.ts'
import { lastOutputLine, OutputTail } from './output.ts'

/** How much of an instance's output its errors carry, in characters. */
export const MAX_ERROR_OUTPUT = 4_096

/** How much of its standard output `ctx.run` resolves with: the last of it, in characters. */
const MAX_RUN_OUTPUT = 1_048_576

export type OutputListener = (text: string, isStdout: boolean) => void

export class InstanceLifecycle {
  /** Resolves when it has ended, with why. */
  readonly exited: Promise<Exit>
  /** Resolves when nothing of it is left. */
  readonly gone: Promise<void>
  readonly #spec: StartSpec
  readonly #abort = new AbortController()
  readonly #output = new OutputTail(MAX_ERROR_OUTPUT)
  #state: 'up' | 'stopping' | 'ended' = 'up'
  #setExited: (exit: Exit) => void = () => {}
  #setGone: () => void = () => {}

  constructor(spec: StartSpec) {
    this.#spec = spec
    this.exited = new Promise((resolve) => {
      this.#setExited = resolve
    })
    this.gone = new Promise((resolve) => {
      this.#setGone = resolve
    })
  }

  get state(): 'up' | 'stopping' | 'ended' {
    return this.#state
  }

  /** Aborted when it ends, or is about to. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** The last of its output, for its errors. */
  get output(): string {
    return this.#output.text
  }

  /** Passes its output on. */
  writeOutput(text: string): void {
    this.#output.add(text)
    this.#spec.onOutput(text)
  }

  /**
   * Rejects when it could not be started, ended meanwhile or was given up; what it has started runs on until it is
   * stopped.
   * @throws ManyhostError MANYHOST_START_FAILED, MANYHOST_RUN_FAILED
   */
  async runStart(signal: AbortSignal, start: () => Promise<void>): Promise<void> {
    const givenUp = (): ManyhostError => this.#createStartError('it was given up', signal.reason)
    if (signal.aborted) throw givenUp()
    let onAbort = (): void => {}
    const lost = new Promise<never>((_, reject) => {
      onAbort = () => reject(givenUp())
      signal.addEventListener('abort', onAbort, { once: true })
      void this.exited.then(({ detail }) => reject(this.#createStartError(`it ended: ${detail}`)))
    })
    try {
      await Promise.race([start(), lost])
    } catch (error) {
      throw this.#createStartError(describeError(error).trim(), error)
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** Calls the service's startup function, where it has one. */
  async runStartupFunction(context: StartupContext, listenOn: ListenOn): Promise<void> {
    try {
      await this.#spec.startup?.(createSafeContext(context), listenOn)
    } catch (error) {
      throw this.#createStartError(`the startup function threw: ${describeError(error)}`, error)
    }
  }

  /**
   * What `ctx.run` does with a command: resolves with the last of its standard output.
   * @param launch resolves when the command has ended, with how: `exit code 0` is success
   * @throws ManyhostError MANYHOST_RUN_FAILED, with the last of its output
   */
  async runCommand(
    command: readonly string[],
    launch: (onText: OutputListener) => Promise<string>,
  ): Promise<string> {
    const stdout = new OutputTail(MAX_RUN_OUTPUT)
    const output = new OutputTail(MAX_ERROR_OUTPUT)
    const detail = await launch((text, isStdout) => {
      output.add(text)
      if (isStdout) stdout.add(text)
      this.writeOutput(text)
    })
    this.signal.throwIfAborted()
    if (detail === 'exit code 0') return stdout.text
    const line = lastOutputLine(output.text)
    throw new ManyhostError(
      'MANYHOST_RUN_FAILED',
      `'${command.join(' ').slice(0, 200)}' failed: ${detail}${line && `: ${line}`}`,
      { service: this.#spec.service, output: output.text },
    )
  }

  /** From now on it may end as one that was stopped. Returns whether this is the first to ask. */
  requestStop(): boolean {
    if (this.#state !== 'up') return false
    this.#state = 'stopping'
    this.#abort.abort(this.#createEndedError('stopped'))
    return true
  }

  /**
   * It ends, at once, also where why is not known yet.
   * @param clear closes its connections with this error
   */
  markEnded(exit: Exit | Promise<Exit>, clear: (error: ManyhostError) => unknown): void {
    this.#state = 'ended'
    if (exit instanceof Promise) void exit.then((known) => this.#settle(known, clear))
    else this.#settle(exit, clear)
  }

  #settle(exit: Exit, clear: (error: ManyhostError) => unknown): void {
    this.#setExited(exit)
    const error = this.#createEndedError(exit.detail)
    this.#abort.abort(error)
    // Whoever waits for `exited` hears of the end before its requests fail: a tick comes after all reactions.
    process.nextTick(() => void clear(error))
  }

  /** Nothing of it is left. */
  markGone(): void {
    this.#setGone()
  }

  #createEndedError(detail: string): ManyhostError {
    const { id, service } = this.#spec
    return new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${id} ended: ${detail}`, {
      service,
      output: this.#output.text,
    })
  }

  #createStartError(why: string, cause?: unknown): ManyhostError {
    if (cause instanceof ManyhostError) return cause
    const { id, service } = this.#spec
    return new ManyhostError('MANYHOST_START_FAILED', `instance ${id} was not started: ${why}`, {
      service,
      output: this.#output.text,
      ...(cause !== undefined && { cause }),
    })
  }
}
