/** One instance on this machine: its processes, its address and the connections to it. */
import type { ManyhostError } from '../../src/core/errors.ts'
import type { Exit, Running, StartSpec } from '../../src/core/provider.ts'
import type { ProcessScope } from '../../src/posix/containment.ts'
import type { PipePool } from '../../src/posix/pipes.ts'
import { endpointOf, openPool, type ServerEndpoint, tcpProbe } from '../shared/endpoint.ts'
import { InstanceLifecycle, type OutputListener } from '../shared/instance-lifecycle.ts'
import type { Reservation } from '../shared/ports.ts'
import { StopDeadline } from '../shared/stop-deadline.ts'
import { createContext } from './context.ts'
import { type GroupOnExit, type ProcessGroup, ProcessGroups } from './process-groups.ts'

export interface ProcessInstanceOptions {
  readonly reservation: Reservation
  readonly scope: ProcessScope
  readonly pipes: PipePool
  readonly cwd: string
  readonly env: Record<string, string>
}

export class ProcessInstance implements Running {
  readonly dispatcher: ReturnType<typeof openPool>
  readonly address: string
  readonly cwd: string
  readonly env: Record<string, string>
  readonly #lifecycle: InstanceLifecycle
  readonly #spec: StartSpec
  readonly #reservation: Reservation
  readonly #scope: ProcessScope
  readonly #endpoint: ServerEndpoint
  readonly #groups: ProcessGroups
  readonly #stopDeadline = new StopDeadline(() => this.#groups.signal('SIGKILL'))
  #lastExit: Exit | undefined

  constructor(spec: StartSpec, { reservation, scope, pipes, cwd, env }: ProcessInstanceOptions) {
    this.#spec = spec
    this.#lifecycle = new InstanceLifecycle(spec)
    this.#reservation = reservation
    this.#scope = scope
    this.cwd = cwd
    this.env = env
    this.#endpoint = endpointOf(reservation.listenOn)
    this.address = this.#endpoint.address
    this.dispatcher = openPool(this.#endpoint, spec)
    this.#groups = new ProcessGroups(scope, pipes)
  }

  get exited(): Promise<Exit> {
    return this.#lifecycle.exited
  }

  /** Resolves when nothing of it is left and its address is free. */
  get gone(): Promise<void> {
    return this.#lifecycle.gone
  }

  /** Aborted when the instance has ended, or is asked to stop. */
  get signal(): AbortSignal {
    return this.#lifecycle.signal
  }

  /** When it rejects, call `stop`: the processes that were started run on until then. */
  begin(signal: AbortSignal): Promise<void> {
    return this.#lifecycle.runStart(signal, () => this.#start())
  }

  async #start(): Promise<void> {
    // A service may have both: the function prepares what the command then serves.
    await this.#lifecycle.runStartupFunction(createContext(this), this.#reservation.listenOn)
    const [command, ...args] = this.#spec.command ?? []
    if (command !== undefined) await this.spawn(command, args)
  }

  async spawn(command: string, args: readonly string[]): Promise<void> {
    const group = await this.#launch(command, args, 'dies', (text) => this.write(text))
    void group.exit.then((exit) => {
      this.#lastExit = exit
      if (this.#lifecycle.state === 'up') this.#end(exit)
    })
  }

  run(command: string, args: readonly string[]): Promise<string> {
    return this.#lifecycle.runCommand([command, ...args], async (onText) => {
      const group = await this.#launch(command, args, 'stays', onText)
      return (await group.exit).detail
    })
  }

  #launch(
    command: string,
    args: readonly string[],
    groupOnExit: GroupOnExit,
    onText: OutputListener,
  ): Promise<ProcessGroup> {
    // A startup function that ignores its signal must not start anything after the end.
    if (this.signal.aborted) return Promise.reject(this.signal.reason)
    const onStdout = (text: string): void => onText(text, true)
    const onStderr = (text: string): void => onText(text, false)
    const { cwd, env, signal } = this
    return this.#groups.launch({ command, args, cwd, env, signal, onStdout, onStderr }, groupOnExit)
  }

  write(text: string): void {
    this.#lifecycle.writeOutput(text)
  }

  accepts(signal: AbortSignal): Promise<void> {
    return tcpProbe(this.#endpoint, signal)
  }

  stop(grace: number): Promise<void> {
    if (this.#lifecycle.requestStop()) {
      // Its children are found through it, as long as it lives.
      this.#scope.scan()
      if (grace > 0) this.#groups.signal('SIGTERM')
      void this.#groups.whenGone().then(() => {
        const detail = this.#lastExit ? `: ${this.#lastExit.detail}` : ''
        this.#end({ reason: 'stopped', detail: `stopped${detail}` })
      })
    }
    this.#stopDeadline.shorten(grace)
    return this.gone
  }

  #end(exit: Exit): void {
    this.#scope.scan()
    this.#groups.signal('SIGKILL')
    this.#lifecycle.markEnded(exit, (error) => this.#cleanUp(error))
  }

  async #cleanUp(error: ManyhostError): Promise<void> {
    // Processes that have left the groups may still use the address and the pipes.
    const closed = this.#groups.whenGone().then(() => this.#scope.close())
    await Promise.allSettled([this.dispatcher.destroy(error), closed])
    this.#stopDeadline.cancel()
    this.#reservation.release()
    this.#lifecycle.markGone()
  }
}
