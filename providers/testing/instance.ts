/**
 * One instance in this process: a node:http server that never listens, and the pool of connections to it.
 *
 * It does not use `InstanceLifecycle`, because it imitates a host that dies: its connections are reset before `exited`
 * resolves, its requests fail with the errors of a network instead of MANYHOST_INSTANCE_ENDED, and it has no output tail.
 */
import { createServer, IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { buildConnector, Pool } from 'undici'
import { DEFAULT_HEADER_SIZE, patchSocket } from '../../src/core/connector.ts'
import { deferred } from '../../src/core/deferred.ts'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import { createPatchedPool } from '../../src/core/http/patched-pool.ts'
import type { Exit, Running, StartSpec } from '../../src/core/provider.ts'
import { after, type Timer } from '../../src/core/time.ts'
import { catchRejection } from '../../src/core/user-functions.ts'
import type { InProcessServe, NodeRequest, Upgrade } from './handler.ts'
import { InProcessGate, InProcessSocket, networkError } from './in-process-socket.ts'

/** An instance as a test sees it. */
export interface InProcessInstance {
  readonly id: string
  /** Requests that have reached the handler. */
  readonly requests: number
  /** Requests whose response is not finished, and upgraded connections. */
  readonly inFlight: number
  /** Ends the instance abruptly: its connections are reset, `exited` is `{ reason: 'killed', detail: reason }`. */
  kill(reason?: string): void
  /**
   * Makes the instance silent, as a host that hangs: it accepts connections and bytes, but reads and sends nothing, and no
   * connection ends. A handler that runs already runs on, and its output is held back. `stop` takes its whole grace.
   */
  freeze(): void
  /** Ends `freeze`: everything that was held back goes on. */
  thaw(): void
}

export class RunningInProcessInstance implements Running, InProcessInstance {
  readonly id: string
  readonly dispatcher: Pool
  readonly address: string
  readonly #spec: StartSpec
  readonly #serve: InProcessServe
  readonly #server: Server
  readonly #gate = new InProcessGate()
  /** The server's ends of the connections. */
  readonly #connections = new Set<InProcessSocket>()
  /** Connections that serve a request, or were upgraded. */
  readonly #busyConnections = new Set<InProcessSocket>()
  readonly #stopTimers: Timer[] = []
  #state: 'running' | 'stopping' | 'ended' = 'running'
  readonly #exited = deferred<Exit>()
  #requests = 0

  constructor(spec: StartSpec, serve: InProcessServe, upgrade: Upgrade | undefined) {
    this.id = spec.id
    this.address = `in-process:${spec.id}`
    this.#spec = spec
    this.#serve = serve

    this.#server = makeServer(spec.id, (req, res) => void this.#request(req, res))
    if (upgrade) {
      this.#server.on('upgrade', (req: NodeRequest, socket, head) => {
        if (this.#beginRequest(socket as InProcessSocket))
          this.#upgrade(() => upgrade(req, socket, head), socket)
      })
    }
    this.dispatcher = createPatchedPool(`http://${new URL(spec.service).host}`, {
      connections: Number.isFinite(spec.concurrency) ? spec.concurrency : null,
      maxHeaderSize: spec.headerSize ?? DEFAULT_HEADER_SIZE,
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: (_options, callback) => {
        // In a later tick: undici misses a connection that exists before its call has returned.
        process.nextTick(() => this.#connect(callback))
      },
    })
  }

  get exited(): Promise<Exit> {
    return this.#exited.promise
  }

  get requests(): number {
    return this.#requests
  }

  get inFlight(): number {
    return this.#busyConnections.size
  }

  get ended(): boolean {
    return this.#state === 'ended'
  }

  async accepts(): Promise<void> {
    if (this.#state === 'running') return
    throw new ManyhostError('MANYHOST_INSTANCE_ENDED', `in-process: ${this.id} is ${this.#state}`)
  }

  kill(reason = 'killed by the test'): void {
    this.#end({ reason: 'killed', detail: reason })
  }

  freeze(): void {
    if (this.#state !== 'ended') this.#gate.close()
  }

  thaw(): void {
    this.#gate.open()
  }

  async stop(grace: number): Promise<void> {
    if (this.#state === 'running') {
      this.#state = 'stopping'
      // A frozen host does not learn that it is asked to stop.
      this.#gate.pass(() => this.#endIdleConnections())
    }
    if (grace <= 0) this.#endAsStopped()
    else if (!this.ended) this.#stopTimers.push(after(grace, () => this.#endAsStopped()))
    await this.exited
    await this.dispatcher.destroy()
  }

  #connect(callback: buildConnector.Callback): void {
    if (this.#state !== 'running') {
      callback(networkError('ECONNREFUSED', 'connect'), null)
      return
    }
    const [near, far] = InProcessSocket.pair(this.#gate)
    this.#connections.add(far)
    far.once('close', () => {
      this.#connections.delete(far)
      this.#busyConnections.delete(far)
      if (this.#state === 'stopping') this.#endIdleConnections()
    })
    this.#gate.pass(() => this.#server.emit('connection', far))
    // undici uses nothing of a socket that a Duplex does not have, although its types say Socket.
    callback(null, patchSocket(near) as unknown as Socket)
  }

  async #request(req: NodeRequest, res: ServerResponse): Promise<void> {
    const connection = req.socket as unknown as InProcessSocket
    if (!this.#beginRequest(connection)) return
    res.once('close', () => {
      this.#busyConnections.delete(connection)
      if (this.#state === 'stopping') this.#endIdleConnections()
    })
    try {
      await this.#serve(req, res)
    } catch (thrown) {
      if (res.destroyed) return
      this.#reportError(thrown)
      if (res.headersSent) return void res.destroy()
      res.writeHead(500, { 'content-type': 'text/plain; charset=utf-8' })
      res.end(describeError(thrown))
    }
  }

  /** If the upgrade fails, its connection is destroyed. */
  #upgrade(upgrade: () => unknown, socket: Duplex): void {
    const failed = (thrown: unknown): void => {
      this.#reportError(thrown)
      socket.destroy()
    }
    try {
      catchRejection(upgrade(), failed)
    } catch (thrown) {
      failed(thrown)
    }
  }

  #reportError(thrown: unknown): void {
    const { stack } = asError(thrown)
    this.#spec.onOutput(`${typeof stack === 'string' ? stack : describeError(thrown)}\n`)
  }

  /** Whether the request may run. It may not if its connection was closed while the request was on its way. */
  #beginRequest(connection: InProcessSocket): boolean {
    if (connection.writableEnded || connection.destroyed) {
      connection.destroy()
      return false
    }
    this.#requests++
    this.#busyConnections.add(connection)
    return true
  }

  /** Ends the idle connections. The instance ends with the last connection. */
  #endIdleConnections(): void {
    if (this.#state !== 'stopping' || this.#gate.isClosed) return
    for (const one of this.#connections) if (!this.#busyConnections.has(one)) one.end()
    if (this.#connections.size === 0) this.#endAsStopped()
  }

  #endAsStopped(): void {
    const inFlight = this.#busyConnections.size
    const detail = inFlight === 0 ? 'stopped' : `stopped, with ${inFlight} in flight`
    this.#end({ reason: 'stopped', detail })
  }

  #end(exit: Exit): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    for (const timer of this.#stopTimers) timer.clear()
    this.#gate.discard()
    for (const connection of [...this.#connections]) connection.resetBoth()
    // A request that still waits for a connection was not sent: it is refused, not reset.
    void this.dispatcher.destroy(networkError('ECONNREFUSED', 'connect'))
    this.#exited.resolve(exit)
  }
}

/** Without timeouts and `Keep-Alive` hints of its own: the test controls the time. */
function makeServer(id: string, serve: (req: NodeRequest, res: ServerResponse) => void): Server {
  class Incoming extends IncomingMessage {
    readonly instance = id
  }
  const quiet = { keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 }
  const server = createServer({ ...quiet, IncomingMessage: Incoming }, serve)
  return server as unknown as Server
}
