/**
 * A connection inside the process: what is written to one end is read from the other. `stream.duplexPair()` is close,
 * but there the death of one end goes unnoticed by the other, for ever; and nothing stands between the ends that
 * could hold the bytes back, as a frozen host does.
 */
import { Duplex } from 'node:stream'

/** Bytes that each end keeps before its writer has to wait, as a kernel's socket buffer does. */
const BUFFER_BYTES = 64 * 1024

/** Stands between the ends of an instance's connections. Shut, it keeps what comes, in order, until it opens. */
export class InProcessGate {
  #isClosed = false
  #isOpening = false
  #held: (() => void)[] = []

  get isClosed(): boolean {
    return this.#isClosed
  }

  pass(act: () => void): void {
    // Also while it opens: what was held goes first.
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
    // What is let through may shut it again.
    while (!this.#isClosed && this.#held.length > 0) this.#held.shift()?.()
    this.#isOpening = false
  }

  /** Opens, and forgets what was held: there is nobody left to take it. */
  discard(): void {
    this.#isClosed = false
    this.#held = []
  }
}

/** One end. It has the methods of a `net.Socket` that HTTP servers and clients call; those of the network do nothing. */
export class InProcessSocket extends Duplex {
  readonly remoteAddress = '127.0.0.1'
  readonly remoteFamily = 'IPv4'
  readonly #gate: InProcessGate
  #otherEnd!: InProcessSocket
  /** Lets the far end write on: called when this end has read what it has. */
  #release: ((error?: Error) => void) | undefined

  /** Two ends that are connected with each other: the client's and the server's. */
  static pair(gate: InProcessGate): [InProcessSocket, InProcessSocket] {
    const ends: [InProcessSocket, InProcessSocket] = [
      new InProcessSocket(gate, false),
      new InProcessSocket(gate, true),
    ]
    ends[0].#otherEnd = ends[1]
    ends[1].#otherEnd = ends[0]
    return ends
  }

  /** @param allowHalfOpen as sockets have it: a client's is closed by the far end's end, a server's is not */
  private constructor(gate: InProcessGate, allowHalfOpen: boolean) {
    super({ highWaterMark: BUFFER_BYTES, allowHalfOpen })
    this.#gate = gate
  }

  /** Ends both ends at once: quietly here, where the host is dead, and with a reset connection at the other. */
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
    // A copy, as a socket makes one: WebSockets are unmasked in place, and a writer may use its buffer again.
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
    // Later, not now: an answer that was taken whole must have left its writer before the writer is reset.
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

/** An error as the network makes them. */
export function networkError(
  code: 'ECONNRESET' | 'ECONNREFUSED' | 'EPIPE',
  syscall: 'read' | 'write' | 'connect',
  detail = 'in process',
): Error {
  return Object.assign(new Error(`${syscall} ${code} (${detail})`), { code, syscall })
}
