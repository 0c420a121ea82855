/** The lifecycle of an instance, for the providers: it starts once, may be asked to stop, and ends once. */
import { deferred } from '../../src/core/deferred.ts'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import { OutputTail } from '../../src/core/output-tail.ts'
import type { Exit, ListenOn, StartSpec, StartupContext } from '../../src/core/provider.ts'
import { createSafeContext } from '../../src/core/startup-context.ts'
import { lastOutputLine } from './output.ts'

/** The errors of an instance carry this many characters of its last output. */
export const MAX_ERROR_OUTPUT = 4_096

/** `ctx.run` resolves with this many characters of the command's last standard output. */
const MAX_RUN_OUTPUT = 1_048_576

export type OutputListener = (text: string, isStdout: boolean) => void

/**
 * up -> stopping -> ended, or up -> ended. An instance calls `requestStop`, `markEnded` and `markGone`, in this order;
 * `requestStop` is left out when the instance ends by itself.
 */
export class InstanceLifecycle {
  readonly #spec: StartSpec
  readonly #abort = new AbortController()
  readonly #output = new OutputTail(MAX_ERROR_OUTPUT)
  readonly #exited = deferred<Exit>()
  readonly #leaving = deferred<string>()
  readonly #gone = deferred<void>()
  #state: 'up' | 'stopping' | 'ended' = 'up'

  constructor(spec: StartSpec) {
    this.#spec = spec
  }

  get state(): 'up' | 'stopping' | 'ended' {
    return this.#state
  }

  /** Resolves with the reason when the instance has ended. */
  get exited(): Promise<Exit> {
    return this.#exited.promise
  }

  /** Resolves with the reason when the instance will be lost soon. */
  get leaving(): Promise<string> {
    return this.#leaving.promise
  }

  /** Resolves when nothing of the instance is left. */
  get gone(): Promise<void> {
    return this.#gone.promise
  }

  /** Aborted when the instance has ended, or is asked to stop. The reason is a MANYHOST_INSTANCE_ENDED. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** The last of its output, for its errors. */
  get output(): string {
    return this.#output.text()
  }

  /** Passes the output of the instance on. */
  writeOutput(text: string): void {
    this.#output.append(text)
    this.#spec.onOutput(text)
  }

  /**
   * Rejects when `start` fails, when the instance ends meanwhile, and when `signal` is aborted. The processes that it has
   * started run on until `stop` is called.
   * @throws ManyhostError MANYHOST_START_FAILED, MANYHOST_RUN_FAILED
   */
  async runStart(signal: AbortSignal, start: () => Promise<void>): Promise<void> {
    const createGivenUpError = (): ManyhostError =>
      this.#createStartError('the start was given up', signal.reason)
    if (signal.aborted) throw createGivenUpError()
    const lost = deferred<never>()
    const onAbort = (): void => lost.reject(createGivenUpError())
    signal.addEventListener('abort', onAbort, { once: true })
    void this.exited.then(({ detail }) =>
      lost.reject(this.#createStartError(`it ended: ${detail}`)),
    )
    try {
      await Promise.race([start(), lost.promise])
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
   * Runs a command for `ctx.run`. Resolves with the last of its standard output.
   * @param launch resolves when the command has ended, with how: `exit code 0` is success
   * @throws ManyhostError MANYHOST_RUN_FAILED, with the last output of the command
   */
  async runCommand(
    command: readonly string[],
    launch: (onText: OutputListener) => Promise<string>,
  ): Promise<string> {
    const stdout = new OutputTail(MAX_RUN_OUTPUT)
    const output = new OutputTail(MAX_ERROR_OUTPUT)
    const detail = await launch((text, isStdout) => {
      output.append(text)
      if (isStdout) stdout.append(text)
      this.writeOutput(text)
    })
    this.signal.throwIfAborted()
    if (detail === 'exit code 0') return stdout.text()
    const line = lastOutputLine(output.text())
    throw new ManyhostError(
      'MANYHOST_RUN_FAILED',
      `'${command.join(' ').slice(0, 200)}' failed: ${detail}${line && `: ${line}`}`,
      { service: this.#spec.service, output: output.text() },
    )
  }

  announceLeaving(reason: string): void {
    this.#leaving.resolve(reason)
  }

  /** From now on the instance may end as one that was stopped. Returns whether this is the first request. */
  requestStop(): boolean {
    if (this.#state !== 'up') return false
    this.#state = 'stopping'
    this.#abort.abort(this.#createEndedError('stopped'))
    return true
  }

  /**
   * The instance has ended. Its state changes at once, also where the reason is still a promise.
   * @param cleanUp closes the connections to the instance with this error
   */
  markEnded(exit: Exit | Promise<Exit>, cleanUp: (error: ManyhostError) => unknown): void {
    this.#state = 'ended'
    if (exit instanceof Promise) void exit.then((known) => this.#settleExit(known, cleanUp))
    else this.#settleExit(exit, cleanUp)
  }

  #settleExit(exit: Exit, cleanUp: (error: ManyhostError) => unknown): void {
    this.#exited.resolve(exit)
    const error = this.#createEndedError(exit.detail)
    this.#abort.abort(error)
    // A tick comes after all reactions to a promise, so the waiters for `exited` learn of the end before the requests of
    // the instance fail.
    process.nextTick(() => void cleanUp(error))
  }

  /** Nothing of the instance is left. */
  markGone(): void {
    this.#gone.resolve()
  }

  #createEndedError(detail: string): ManyhostError {
    const { id, service } = this.#spec
    return new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${id} ended: ${detail}`, {
      service,
      output: this.#output.text(),
    })
  }

  #createStartError(why: string, cause?: unknown): ManyhostError {
    if (cause instanceof ManyhostError) return cause
    const { id, service } = this.#spec
    return new ManyhostError('MANYHOST_START_FAILED', `instance ${id} was not started: ${why}`, {
      service,
      output: this.#output.text(),
      ...(cause !== undefined && { cause }),
    })
  }
}
