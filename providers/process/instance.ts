/** One instance: its processes, its address and the connections to it, from the first child to the last. */
import type { ManyhostError } from '../../src/core/errors.ts'
import type { Exit, Running, StartSpec } from '../../src/core/provider.ts'
import type { Scope } from '../../src/posix/containment.ts'
import type { PipeStock } from '../../src/posix/pipes.ts'
import { type Endpoint, endpointOf, knock, openPool } from '../endpoint.ts'
import { Grace } from '../grace.ts'
import { Life, type OnText } from '../life.ts'
import { createContext } from './context.ts'
import { Family, type Group, type Rest } from './family.ts'
import type { Reservation } from './ports.ts'

export interface Surroundings {
  readonly reservation: Reservation
  readonly scope: Scope
  readonly pipes: PipeStock
  readonly cwd: string
  readonly env: Record<string, string>
}

export class Instance implements Running {
  readonly dispatcher: ReturnType<typeof openPool>
  readonly address: string
  readonly cwd: string
  readonly env: Record<string, string>
  readonly #life: Life
  readonly #spec: StartSpec
  readonly #reservation: Reservation
  readonly #scope: Scope
  readonly #endpoint: Endpoint
  readonly #family: Family
  readonly #grace = new Grace(() => this.#family.signal('SIGKILL'))
  #lastExit: Exit | undefined

  constructor(spec: StartSpec, { reservation, scope, pipes, cwd, env }: Surroundings) {
    this.#spec = spec
    this.#life = new Life(spec)
    this.#reservation = reservation
    this.#scope = scope
    this.cwd = cwd
    this.env = env
    this.#endpoint = endpointOf(reservation.listenOn)
    this.address = this.#endpoint.address
    this.dispatcher = openPool(this.#endpoint, spec)
    this.#family = new Family(scope, pipes)
  }

  get exited(): Promise<Exit> {
    return this.#life.exited
  }

  /** Resolves when nothing of it is left and its address is free. */
  get gone(): Promise<void> {
    return this.#life.gone
  }

  /** Aborted when the instance ends, or is about to. */
  get signal(): AbortSignal {
    return this.#life.signal
  }

  /** What it has started runs on until `stop`. */
  begin(signal: AbortSignal): Promise<void> {
    return this.#life.begin(signal, () => this.#start())
  }

  async #start(): Promise<void> {
    // With both, the function prepares what the command then serves.
    await this.#life.prepare(createContext(this), this.#reservation.listenOn)
    const [command, ...args] = this.#spec.command ?? []
    if (command !== undefined) await this.spawn(command, args)
  }

  async spawn(command: string, args: readonly string[]): Promise<void> {
    const group = await this.#launch(command, args, 'dies', (text) => this.write(text))
    void group.exit.then((exit) => {
      this.#lastExit = exit
      if (this.#life.state === 'up') this.#end(exit)
    })
  }

  run(command: string, args: readonly string[]): Promise<string> {
    return this.#life.run([command, ...args], async (onText) => {
      const group = await this.#launch(command, args, 'stays', onText)
      return (await group.exit).detail
    })
  }

  #launch(command: string, args: readonly string[], rest: Rest, onText: OnText): Promise<Group> {
    // A startup function that does not look at its signal must not start anything behind our back.
    if (this.signal.aborted) return Promise.reject(this.signal.reason)
    const onStdout = (text: string): void => onText(text, true)
    const onStderr = (text: string): void => onText(text, false)
    const { cwd, env, signal } = this
    return this.#family.launch({ command, args, cwd, env, signal, onStdout, onStderr }, rest)
  }

  write(text: string): void {
    this.#life.write(text)
  }

  accepts(signal: AbortSignal): Promise<void> {
    return knock(this.#endpoint, signal)
  }

  stop(grace: number): Promise<void> {
    if (this.#life.stop()) {
      // Its children are known by it, as long as it lives.
      this.#scope.look()
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
    this.#scope.look()
    this.#family.signal('SIGKILL')
    this.#life.end(exit, (error) => this.#clear(error))
  }

  async #clear(error: ManyhostError): Promise<void> {
    // What has left the groups may hold the address, and the pipes that `gone` waits for.
    const left = this.#family.gone().then(() => this.#scope.close())
    await Promise.allSettled([this.dispatcher.destroy(error), left])
    this.#grace.cancel()
    this.#reservation.release()
    this.#life.leave()
  }
}
