/**
 * A connection inside the process: bytes that are written to one end are read from the other. `stream.duplexPair()` would
 * not do: there one end never learns that the other was destroyed, and nothing between the ends could hold bytes back, as
 * a frozen host does.
 */
import { Duplex } from 'node:stream'

/** Bytes that each end keeps before its writer must wait, as the socket buffer of a kernel. */
const BUFFER_BYTES = 64 * 1024

/** A gate between the ends of an instance's connections. While it is closed, it keeps all actions, in order, until it opens. */
export class InProcessGate {
  #isClosed = false
  #isOpening = false
  #held: (() => void)[] = []

  get isClosed(): boolean {
    return this.#isClosed
  }

  pass(act: () => void): void {
    // Also while the gate opens: held actions run first.
    if (this.#isClosed || this.#isOpening) this.#held.push(act)
    else act()
  }

  close(): void {
    this.#isClosed = true
  }

  open(): void {
    this.#isClosed = false
    if (this.#isOpening) return
    this.#isOpening = true
    // An action may close the gate again.
    while (!this.#isClosed && this.#held.length > 0) this.#held.shift()?.()
    this.#isOpening = false
  }

  /** Opens the gate and drops all held actions: the instance is dead, so nobody could take them. */
  discard(): void {
    this.#isClosed = false
    this.#held = []
  }
}

/** One end of a connection. It has the methods of a `net.Socket` that HTTP servers and clients call; some do nothing. */
export class InProcessSocket extends Duplex {
  readonly remoteAddress = '127.0.0.1'
  readonly remoteFamily = 'IPv4'
  readonly #gate: InProcessGate
  #otherEnd!: InProcessSocket
  /** Lets the other end write on. Called when this end has read its data. */
  #release: ((error?: Error) => void) | undefined

  /** Two connected ends: that of the client and that of the server. */
  static pair(gate: InProcessGate): [InProcessSocket, InProcessSocket] {
    const ends: [InProcessSocket, InProcessSocket] = [
      new InProcessSocket(gate, false),
      new InProcessSocket(gate, true),
    ]
    ends[0].#otherEnd = ends[1]
    ends[1].#otherEnd = ends[0]
    return ends
  }

  /** @param allowHalfOpen as with sockets: the end of a client is closed when the other end ends, that of a server is not */
  private constructor(gate: InProcessGate, allowHalfOpen: boolean) {
    super({ highWaterMark: BUFFER_BYTES, allowHalfOpen })
    this.#gate = gate
  }

  /** Destroys both ends at once: this one without an error, because its host is dead, the other one with ECONNRESET. */
  resetBoth(): void {
    this.destroy()
    this.#otherEnd.#reset()
  }

  override _read(): void {
    const release = this.#release
    this.#release = undefined
    release?.()
  }

  override _write(
    chunk: Buffer,
    _encoding: BufferEncoding,
    callback: (error?: Error | null) => void,
  ): void {
    // Copied, as a socket does: WebSockets unmask their data in place, and a writer may reuse its buffer.
    const bytes = Buffer.from(chunk)
    this.#gate.pass(() => this.#otherEnd.#take(bytes, callback))
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#gate.pass(() => {
      this.#otherEnd.#finish()
      callback()
    })
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    callback(error)
    // In a later tick: a response that was read completely must have left its writer before the writer is reset.
    process.nextTick(() =>
      this.#gate.pass(() => {
        this.#release?.(networkError('EPIPE', 'write'))
        if (this.writableFinished) return
        if (error) this.#otherEnd.#reset()
        else this.#otherEnd.#finish()
      }),
    )
  }

  #take(bytes: Buffer, callback: (error?: Error | null) => void): void {
    if (this.destroyed) callback(networkError('EPIPE', 'write'))
    else if (this.push(bytes)) callback()
    else this.#release = callback
  }

  #finish(): void {
    if (this.destroyed || this.readableEnded) return
    this.push(null)
  }

  #reset(): void {
    if (!this.destroyed) this.destroy(networkError('ECONNRESET', 'read'))
  }

  setTimeout(): this {
    return this
  }

  setNoDelay(): this {
    return this
  }

  setKeepAlive(): this {
    return this
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }
}

/** An error of the network. */
export function networkError(
  code: 'ECONNRESET' | 'ECONNREFUSED' | 'EPIPE',
  syscall: 'read' | 'write' | 'connect',
  detail = 'in process',
): Error {
  return Object.assign(new Error(`${syscall} ${code} (${detail})`), { code, syscall })
}
