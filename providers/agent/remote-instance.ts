/** An instance on an agent's machine, seen from the hub: requests go through tunnels, everything else over the agent's link. */
import { deferred } from '../../src/core/deferred.ts'
import { asError, ManyhostError } from '../../src/core/errors.ts'
import type { Exit, ListenOn, Running, StartSpec } from '../../src/core/provider.ts'
import { code } from '../../src/wire/index.ts'
import { openPool, type ServerEndpoint } from '../shared/endpoint.ts'
import { InstanceLifecycle } from '../shared/instance-lifecycle.ts'
import type { AgentConnection } from './agent-connection.ts'
import type { FileTransfers } from './file-transfers.ts'
import type { HostedInstance } from './hosted-instance.ts'
import { createRemoteContext } from './remote-context.ts'
import { toStartError } from './start-error.ts'
import type { AgentTunnels } from './tunnels.ts'

export interface AgentTransports {
  readonly tunnels: AgentTunnels
  readonly transfers: FileTransfers
}

export class RemoteInstance implements Running, HostedInstance {
  readonly id: string
  readonly connection: AgentConnection
  address = ''
  readonly #spec: StartSpec
  readonly #transports: AgentTransports
  readonly #life: InstanceLifecycle
  readonly #leaving = deferred<string>()
  #dispatcher: Running['dispatcher'] | undefined
  /** What the startup function threw. */
  #startupError: unknown
  /** The shortest grace of all calls of `stop`. It is sent again when an agent that was away returns. */
  #shortestGrace = Number.POSITIVE_INFINITY
  /** How the instance ended, if the agent has reported that while the instance was being stopped. */
  #exit: Exit | undefined

  constructor(spec: StartSpec, connection: AgentConnection, transports: AgentTransports) {
    this.id = spec.id
    this.#spec = spec
    this.connection = connection
    this.#transports = transports
    this.#life = new InstanceLifecycle(spec)
  }

  get exited(): Promise<Exit> {
    return this.#life.exited
  }

  get leaving(): Promise<string> {
    return this.#leaving.promise
  }

  /** Resolves when nothing of the instance is left, or when nobody can tell any more. */
  get gone(): Promise<void> {
    return this.#life.gone
  }

  get dispatcher(): Running['dispatcher'] {
    if (this.#dispatcher) return this.#dispatcher
    throw new ManyhostError('MANYHOST_START_FAILED', `instance ${this.id} has not started`)
  }

  /** Aborted when the instance ends, or is about to end. */
  get signal(): AbortSignal {
    return this.#life.signal
  }

  get service(): string {
    return this.#spec.service
  }

  get output(): string {
    return this.#life.output
  }

  get shouldKeep(): boolean {
    return this.#life.state === 'up' && this.#dispatcher !== undefined
  }

  /** What it reserves of the agent is released later, when its connections are closed as well: see `gone`. */
  get hasEnded(): boolean {
    return this.#life.state === 'ended'
  }

  /**
   * Rejects when the instance could not be started, ended during its start, or was given up. Nothing of it is left then.
   * @throws ManyhostError MANYHOST_START_FAILED, or the code of the agent's own error
   */
  async start(signal: AbortSignal): Promise<void> {
    try {
      await this.#life.runStart(signal, async () => {
        const address = await this.#requestStart()
        if (this.#life.state === 'up') this.#openDispatcher(address)
      })
    } catch (error) {
      // The agent has cleaned up already, or is asked to.
      if (this.#life.state !== 'ended') void this.stop(0)
      await this.gone
      throw error
    }
  }

  /** Resolves with the address of the instance on the agent's machine. */
  async #requestStart(): Promise<string> {
    const { id, service, command, startup, image, env, cwd, labels, resources, listen } = this.#spec
    const wanted = {
      id,
      service,
      hasStartup: startup !== undefined,
      concurrency: Math.min(this.#spec.concurrency, Number.MAX_SAFE_INTEGER),
      ...(command && { command: [...command] }),
      image,
      env: { ...env },
      cwd,
      labels: { ...labels },
      resources: resources && { ...resources },
      listen,
    }
    try {
      return String(await this.connection.po.request(code`start(${wanted})`))
    } catch (thrown) {
      // What the startup function threw here is more exact than what the agent makes of it.
      if (this.#startupError !== undefined) throw this.#startupError
      const what = `instance ${id} was not started by agent ${this.connection.name}`
      throw toStartError(thrown, what, this.output, service)
    }
  }

  #openDispatcher(address: string): void {
    const isHttp = /^http:\/\/[\w.:[\]-]+$/.test(address)
    const origin = isHttp ? address : 'http://localhost'
    // The pool connects by the function below; `listenOn` is not used.
    const endpoint: ServerEndpoint = { origin, listenOn: { host: 'tunnel', port: 1 }, address }
    const { tunnels } = this.#transports
    this.address = `${address} on ${this.connection.name}`
    this.#dispatcher = openPool(endpoint, this.#spec, (_, callback) => {
      tunnels.open(this.connection, this.id).then(
        (socket) => callback(null, socket),
        (error) => callback(asError(error), null),
      )
    })
  }

  async runStartup(listenOn: ListenOn, env: Record<string, string>): Promise<void> {
    const context = createRemoteContext(this, this.#transports.transfers, env)
    try {
      await this.#life.runStartupFunction(context, listenOn)
    } catch (error) {
      this.#startupError = error
      throw error
    }
  }

  addOutput(text: string): void {
    this.#life.writeOutput(text)
  }

  async accepts(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    await this.connection.po.request(code`knock(${this.id})`, { signal })
  }

  stop(grace: number): Promise<void> {
    this.#life.requestStop()
    if (grace < this.#shortestGrace && this.#life.state === 'stopping') {
      this.#shortestGrace = grace
      if (this.connection.isUp) this.#requestStop()
    }
    return this.gone
  }

  /** Asks for the stop again: the agent may not have got the first message. */
  onAgentReturned(): void {
    if (this.#life.state === 'stopping') this.#requestStop()
  }

  #requestStop(): void {
    // If the link ends before the answer, nothing is lost: when the agent returns it is asked again, and when it does
    // not return the instance is lost anyway.
    this.connection.stopInstance(this.id, this.#shortestGrace).then(
      () => this.#end(this.#exit ?? { reason: 'stopped', detail: 'stopped' }),
      () => {},
    )
  }

  announceLeaving(why: string): void {
    this.#leaving.resolve(why)
  }

  onExited(exit: Exit): void {
    if (this.#life.state === 'stopping') {
      // The answer to the stop follows: only then nothing of the instance is left.
      this.#exit = exit.reason === 'stopped' ? exit : { ...exit, reason: 'stopped' }
    } else this.#end(exit)
  }

  onAgentLost(why: string): void {
    this.#end({ reason: this.#life.state === 'stopping' ? 'stopped' : 'lost', detail: why })
  }

  #end(exit: Exit): void {
    if (this.#life.state === 'ended') return
    this.#life.markEnded(exit, (error) => this.#closeConnections(error))
  }

  async #closeConnections(error: ManyhostError): Promise<void> {
    this.#transports.tunnels.failInstanceTunnels(this.connection, this.id, error)
    await this.#dispatcher?.destroy(error).catch(() => {})
    this.#life.markGone()
  }
}
