/** An instance on an agent's machine, from here: its requests go over lanes, all else over the agent's link. */
import { asError, ManyhostError } from '../../src/core/errors.ts'
import { OutputTail } from '../../src/core/output-tail.ts'
import type { Exit, ListenOn, Running, StartSpec } from '../../src/core/provider.ts'
import { createSafeContext } from '../../src/core/startup-context.ts'
import { code } from '../../src/wire/index.ts'
import { openPool, type ServerEndpoint } from '../shared/endpoint.ts'
import { AgentConnection } from './agent-connection.ts'
import type { FileTransfers } from './file-transfers.ts'
import { createRemoteContext } from './remote-context.ts'
import type { AgentTunnels } from './tunnels.ts'

/** How much of an instance's output its errors carry, in characters. */
const MAX_ERROR_OUTPUT = 4_096

export interface AgentTransports {
  readonly tunnels: AgentTunnels
  readonly transfers: FileTransfers
}

export class RemoteInstance implements Running {
  readonly id: string
  readonly connection: AgentConnection
  readonly exited: Promise<Exit>
  readonly leaving: Promise<string>
  /** Resolves when nothing of it is left, or nobody can tell any more. */
  readonly cleanedUp: Promise<void>
  address = ''
  readonly #spec: StartSpec
  readonly #transports: AgentTransports
  readonly #abort = new AbortController()
  readonly #output = new OutputTail(MAX_ERROR_OUTPUT)
  #dispatcher: Running['dispatcher'] | undefined
  #state: 'up' | 'stopping' | 'ended' = 'up'
  /** What its startup function threw. */
  #startupError: unknown
  /** The shortest grace that was asked for; kept for an agent that is away. */
  #shortestGrace = Number.POSITIVE_INFINITY
  #exit: Exit | undefined
  #setExited!: (exit: Exit) => void
  #setLeaving!: (why: string) => void
  #setCleanedUp!: () => void

  constructor(spec: StartSpec, member: AgentConnection, roads: AgentTransports) {
    this.id = spec.id
    this.#spec = spec
    this.connection = member
    this.#transports = roads
    this.exited = new Promise((resolve) => {
      this.#setExited = resolve
    })
    this.leaving = new Promise((resolve) => {
      this.#setLeaving = resolve
    })
    this.cleanedUp = new Promise((resolve) => {
      this.#setCleanedUp = resolve
    })
  }

  get dispatcher(): Running['dispatcher'] {
    if (this.#dispatcher) return this.#dispatcher
    throw new ManyhostError('MANYHOST_START_FAILED', `instance ${this.id} has not started`)
  }

  /** Aborted when it ends, or is about to. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  get service(): string {
    return this.#spec.service
  }

  get output(): string {
    return this.#output.text()
  }

  /** Whether the agent is to keep it, if it comes back. */
  get shouldKeep(): boolean {
    return this.#state === 'up' && this.#dispatcher !== undefined
  }

  /** Whether it has ended; its place is given back when its connections are closed as well. */
  get hasEnded(): boolean {
    return this.#state === 'ended'
  }

  /** Rejects when it could not be started, ended meanwhile or was given up, and then nothing is left of it. */
  async start(signal: AbortSignal): Promise<void> {
    const onAbort = (): void => void this.stop(0)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      signal.throwIfAborted()
      const said = await this.#requestStart()
      signal.throwIfAborted()
      if (this.#state === 'ended') throw this.#createEndedError(this.#exit?.detail ?? 'it ended')
      this.#openDispatcher(said)
    } catch (thrown) {
      const reason = signal.aborted ? signal.reason : (this.#startupError ?? thrown)
      await this.#abandonStart()
      const what = `instance ${this.id} was not started by agent ${this.connection.name}`
      throw AgentConnection.toStartError(reason, what, this.output, this.service)
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

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
    return String(await this.connection.po.request(code`start(${wanted})`))
  }

  #openDispatcher(said: string): void {
    const isHttp = /^http:\/\/[\w.:[\]-]+$/.test(said)
    const origin = isHttp ? said : 'http://localhost'
    const endpoint: ServerEndpoint = { origin, listenOn: { host: 'lane', port: 1 }, address: said }
    const { tunnels: lanes } = this.#transports
    this.address = `${said} on ${this.connection.name}`
    this.#dispatcher = openPool(endpoint, this.#spec, (_, callback) => {
      lanes.open(this.connection, this.id).then(
        (socket) => callback(null, socket),
        (error) => callback(asError(error), null),
      )
    })
  }

  /** Runs the service's own function; the agent has asked for it, and waits. */
  async runStartup(where: ListenOn, env: Record<string, string>): Promise<void> {
    const context = createRemoteContext(this, this.#transports.transfers, env)
    try {
      await this.#spec.startup?.(createSafeContext(context), where)
    } catch (error) {
      this.#startupError = error
      throw error
    }
  }

  addOutput(text: string): void {
    this.#output.append(text)
    this.#spec.onOutput(text)
  }

  async accepts(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    await this.connection.po.request(code`knock(${this.id})`, { signal })
  }

  stop(grace: number): Promise<void> {
    if (this.#state === 'up') {
      this.#state = 'stopping'
      this.#abort.abort(this.#createEndedError('stopped'))
    }
    if (grace < this.#shortestGrace && this.#state === 'stopping') {
      this.#shortestGrace = grace
      if (this.connection.isUp) this.#requestStop()
    }
    return this.cleanedUp
  }

  /** Also when its agent has come back: it may not have heard. */
  onAgentReturned(): void {
    if (this.#state === 'stopping') this.#requestStop()
  }

  #requestStop(): void {
    // Lost with the link: asked again when the agent returns, and not needed when it does not.
    this.connection.stopInstance(this.id, this.#shortestGrace).then(
      () => this.#end(this.#exit ?? { reason: 'stopped', detail: 'stopped' }),
      () => {},
    )
  }

  /** The start has failed: the agent has cleaned up, or is told to. */
  async #abandonStart(): Promise<void> {
    if (this.#state !== 'ended') void this.stop(0)
    await this.cleanedUp
  }

  /** Its agent wants to go. */
  announceLeaving(why: string): void {
    this.#setLeaving(why)
  }

  /** Its agent says that it has ended. */
  onExited(exit: Exit): void {
    if (this.#state === 'stopping') {
      this.#exit = exit.reason === 'stopped' ? exit : { ...exit, reason: 'stopped' }
      return
    }
    this.#exit = exit
    this.#end(exit)
  }

  /** Its agent is gone. */
  onAgentLost(why: string): void {
    this.#end({ reason: this.#state === 'stopping' ? 'stopped' : 'lost', detail: why })
  }

  #end(exit: Exit): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.#setExited(exit)
    const error = this.#createEndedError(exit.detail)
    this.#abort.abort(error)
    this.#transports.tunnels.failInstanceTunnels(this, error)
    // Whoever waits for `exited` hears of the end before its requests fail: a tick comes after all reactions.
    process.nextTick(() => void this.#closeConnections(error))
  }

  async #closeConnections(error: ManyhostError): Promise<void> {
    await this.#dispatcher?.destroy(error).catch(() => {})
    this.#setCleanedUp()
  }

  #createEndedError(detail: string): ManyhostError {
    const { id, service } = this.#spec
    return new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${id} ended: ${detail}`, {
      service,
      output: this.output,
    })
  }
}
