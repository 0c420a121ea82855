/** One instance: its processes, its address and the connections to it, from the first child to the last. */
import { describe, ManyhostError } from '../../src/errors.ts'
import type { Exit, Running, StartSpec } from '../../src/provider.ts'
import { type Endpoint, endpointOf, knock, openPool } from '../endpoint.ts'
import { Grace } from '../grace.ts'
import { createContext } from './context.ts'
import { Family, type Group, type Rest } from './family.ts'
import type { Guard } from './guard.ts'
import { lastLine, Tail } from './output.ts'
import type { Reservation } from './ports.ts'

/** How much of an instance's output its errors carry, in characters. */
const ERROR_OUTPUT = 4_096

/** How much of its standard output `ctx.run` resolves with: the last of it, in characters. */
const RUN_OUTPUT = 1_048_576

export interface Surroundings {
  readonly reservation: Reservation
  readonly guard: Guard
  readonly cwd: string
  readonly env: Record<string, string>
}

export class Instance implements Running {
  readonly dispatcher: ReturnType<typeof openPool>
  readonly exited: Promise<Exit>
  readonly address: string
  readonly cwd: string
  readonly env: Record<string, string>
  /** Resolves when nothing of it is left and its address is free. */
  readonly gone: Promise<void>
  readonly #spec: StartSpec
  readonly #reservation: Reservation
  readonly #guard: Guard
  readonly #endpoint: Endpoint
  readonly #family: Family
  readonly #grace = new Grace(() => this.#family.signal('SIGKILL'))
  readonly #abort = new AbortController()
  readonly #output = new Tail(ERROR_OUTPUT)
  #state: 'up' | 'stopping' | 'ended' = 'up'
  #lastExit: Exit | undefined
  #setExited: (exit: Exit) => void = () => {}
  #setGone: () => void = () => {}

  constructor(spec: StartSpec, { reservation, guard, cwd, env }: Surroundings) {
    this.#spec = spec
    this.#reservation = reservation
    this.#guard = guard
    this.cwd = cwd
    this.env = env
    this.#endpoint = endpointOf(reservation.listenOn)
    this.address = this.#endpoint.address
    this.dispatcher = openPool(this.#endpoint, spec.concurrency)
    this.#family = new Family(guard)
    this.exited = new Promise((resolve) => {
      this.#setExited = resolve
    })
    this.gone = new Promise((resolve) => {
      this.#setGone = resolve
    })
  }

  /** Aborted when the instance ends, or is about to. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** Rejects when it could not be started, ended meanwhile or was given up; what it started runs on until `stop`. */
  async begin(signal: AbortSignal): Promise<void> {
    const givenUp = (): ManyhostError => this.#failure('it was given up', signal.reason)
    if (signal.aborted) throw givenUp()
    let onAbort = (): void => {}
    const lost = new Promise<never>((_, reject) => {
      onAbort = () => reject(givenUp())
      signal.addEventListener('abort', onAbort, { once: true })
      void this.exited.then(({ detail }) => reject(this.#failure(`it ended: ${detail}`)))
    })
    try {
      await Promise.race([this.#startup(), lost])
    } catch (error) {
      throw error instanceof ManyhostError
        ? error
        : this.#failure(`the startup function threw: ${describe(error)}`, error)
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  async #startup(): Promise<void> {
    const { startup, command } = this.#spec
    // With both, the function prepares what the command then serves.
    if (startup) await startup(createContext(this), this.#reservation.listenOn)
    if (command) await this.spawn(command[0] ?? '', command.slice(1))
  }

  async spawn(command: string, args: readonly string[]): Promise<void> {
    const group = await this.#launch(command, args, 'dies')
    void group.exit.then((exit) => {
      this.#lastExit = exit
      if (this.#state === 'up') this.#end(exit)
    })
  }

  async run(command: string, args: readonly string[]): Promise<string> {
    const stdout = new Tail(RUN_OUTPUT)
    const output = new Tail(ERROR_OUTPUT)
    const group = await this.#launch(command, args, 'stays', (text, isStdout) => {
      output.add(text)
      if (isStdout) stdout.add(text)
    })
    const { detail } = await group.exit
    this.signal.throwIfAborted()
    if (detail === 'exit code 0') return stdout.text
    const line = lastLine(output.text)
    throw new ManyhostError(
      'MANYHOST_RUN_FAILED',
      `'${[command, ...args].join(' ').slice(0, 200)}' failed: ${detail}${line && `: ${line}`}`,
      { service: this.#spec.service, output: output.text },
    )
  }

  #launch(
    command: string,
    args: readonly string[],
    rest: Rest,
    onText?: (text: string, isStdout: boolean) => void,
  ): Promise<Group> {
    // A startup function that does not look at its signal must not start anything behind our back.
    if (this.signal.aborted) return Promise.reject(this.signal.reason)
    const take = (text: string, isStdout: boolean): void => {
      onText?.(text, isStdout)
      this.write(text)
    }
    const onStdout = (text: string): void => take(text, true)
    const onStderr = (text: string): void => take(text, false)
    const { cwd, env } = this
    return this.#family.launch({ command, args, cwd, env, onStdout, onStderr }, rest)
  }

  write(text: string): void {
    this.#output.add(text)
    this.#spec.onOutput(text)
  }

  accepts(signal: AbortSignal): Promise<void> {
    return knock(this.#endpoint, signal)
  }

  stop(grace: number): Promise<void> {
    if (this.#state === 'up') {
      this.#state = 'stopping'
      this.#abort.abort(this.#ended('stopped'))
      if (grace > 0) this.#family.signal('SIGTERM')
      void this.#family.gone().then(() => {
        const how = this.#lastExit ? `: ${this.#lastExit.detail}` : ''
        this.#end({ reason: 'stopped', detail: `stopped${how}` })
      })
    }
    this.#grace.shorten(grace)
    return this.gone
  }

  #end(exit: Exit): void {
    this.#state = 'ended'
    this.#family.signal('SIGKILL')
    this.#setExited(exit)
    const error = this.#ended(exit.detail)
    this.#abort.abort(error)
    // Whoever waits for `exited` hears of the end before its requests fail: a tick comes after all reactions.
    process.nextTick(() => void this.#clear(error))
  }

  async #clear(error: ManyhostError): Promise<void> {
    await Promise.allSettled([this.dispatcher.destroy(error), this.#family.gone()])
    this.#grace.cancel()
    this.#reservation.release()
    this.#guard.sweep(this.#spec.id)
    this.#setGone()
  }

  #ended(detail: string): ManyhostError {
    const { id, service } = this.#spec
    return new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${id} ended: ${detail}`, {
      service,
      output: this.#output.text,
    })
  }

  #failure(why: string, cause?: unknown): ManyhostError {
    if (cause instanceof ManyhostError) return cause
    const { id, service } = this.#spec
    return new ManyhostError('MANYHOST_START_FAILED', `instance ${id} was not started: ${why}`, {
      service,
      output: this.#output.text,
      ...(cause !== undefined && { cause }),
    })
  }
}
