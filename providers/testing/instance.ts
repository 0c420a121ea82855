/** One instance in this process: a node:http server that never listens, and the pool of connections to it. */
import { createServer, IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { buildConnector, Pool } from 'undici'
import { DEFAULT_HEADER_SIZE, patchSocket } from '../../src/core/connector.ts'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import { createPatchedPool } from '../../src/core/http/patched-pool.ts'
import type { Exit, Running, StartSpec } from '../../src/core/provider.ts'
import { after, type Timer } from '../../src/core/time.ts'
import { catchRejection } from '../../src/core/user-functions.ts'
import type { InProcessServe, NodeRequest, Upgrade } from './handler.ts'
import { InProcessGate, InProcessSocket, networkError } from './in-process-socket.ts'

/** What a test can see of an instance, and do to it. */
export interface InProcessInstance {
  readonly id: string
  /** Requests that have reached the handler. */
  readonly requests: number
  /** Requests whose answer is not finished, and upgraded connections. */
  readonly inFlight: number
  /** Ends it abruptly: its connections are reset, `exited` is `{ reason: 'killed', detail: reason }`. */
  kill(reason?: string): void
  /**
   * Silence, as of a host that hangs: connections and bytes are accepted, nothing is taken or answered, no
   * connection ends. The handler itself runs on if it runs; what it writes is held. `stop` needs its whole grace.
   */
  freeze(): void
  /** Ends `freeze`: what was held goes on its way. */
  thaw(): void
}

export class RunningInProcessInstance implements Running, InProcessInstance {
  readonly id: string
  readonly dispatcher: Pool
  readonly exited: Promise<Exit>
  readonly address: string
  readonly #spec: StartSpec
  readonly #serve: InProcessServe
  readonly #server: Server
  readonly #gate = new InProcessGate()
  /** The server's ends of its connections. */
  readonly #connections = new Set<InProcessSocket>()
  /** Those that serve a request or were upgraded. */
  readonly #busyConnections = new Set<InProcessSocket>()
  readonly #stopTimers: Timer[] = []
  #state: 'running' | 'stopping' | 'ended' = 'running'
  #requests = 0
  #setExited!: (exit: Exit) => void

  constructor(spec: StartSpec, serve: InProcessServe, upgrade: Upgrade | undefined) {
    this.id = spec.id
    this.address = `in-process:${spec.id}`
    this.#spec = spec
    this.#serve = serve
    this.exited = new Promise((resolve) => {
      this.#setExited = resolve
    })
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
        // Not in this turn: undici misses a connection that is there before its call has returned.
        process.nextTick(() => this.#connect(callback))
      },
    })
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
      // A frozen host does not notice that it is asked to stop.
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
    // undici asks of a socket what any Duplex has; its types say Socket all the same.
    callback(null, patchSocket(near) as unknown as Socket)
  }

  async #request(req: NodeRequest, res: ServerResponse): Promise<void> {
    const line = req.socket as unknown as InProcessSocket
    if (!this.#beginRequest(line)) return
    res.once('close', () => {
      this.#busyConnections.delete(line)
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

  /** The connection of an upgrade that fails is of no use. */
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

  /** Whether the request may run: not on a line that was closed while the request was on its way. */
  #beginRequest(line: InProcessSocket): boolean {
    if (line.writableEnded || line.destroyed) {
      line.destroy()
      return false
    }
    this.#requests++
    this.#busyConnections.add(line)
    return true
  }

  /** Ends the lines that are idle, and itself with the last one. */
  #endIdleConnections(): void {
    if (this.#state !== 'stopping' || this.#gate.isClosed) return
    for (const line of this.#connections) if (!this.#busyConnections.has(line)) line.end()
    if (this.#connections.size === 0) this.#endAsStopped()
  }

  #endAsStopped(): void {
    const cut = this.#busyConnections.size
    const detail = cut === 0 ? 'stopped' : `stopped, with ${cut} in flight`
    this.#end({ reason: 'stopped', detail })
  }

  #end(exit: Exit): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    for (const timer of this.#stopTimers) timer.clear()
    this.#gate.discard()
    for (const line of [...this.#connections]) line.resetBoth()
    // Whoever still waits for a connection was not sent: refused, not reset.
    void this.dispatcher.destroy(networkError('ECONNREFUSED', 'connect'))
    this.#setExited(exit)
  }
}

/** No timeout of its own and no `Keep-Alive` hint: time is the test's. */
function makeServer(id: string, serve: (req: NodeRequest, res: ServerResponse) => void): Server {
  class Incoming extends IncomingMessage {
    readonly instance = id
  }
  const quiet = { keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 }
  const server = createServer({ ...quiet, IncomingMessage: Incoming }, serve)
  return server as unknown as Server
}
