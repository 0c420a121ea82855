/** What posting and hosting conversations have in common: taking what comes off the wire, in order, when it is asked for. */
import { asError, ManyhostError } from '../core/errors.ts'
import { BLOB, type Packet } from './frames.ts'
import { isPromise } from './land.ts'
import type { Link } from './link.ts'

/** Somebody waits for an object, for bytes, or for the end of the conversation's sending. */
export interface Ask {
  readonly want: 'obj' | 'data' | 'end'
  /** Bytes that are still missing. */
  left: number
  readonly size: number
  /** Whether the first bytes that come are enough. */
  readonly isPartial: boolean
  /** Whether the end of a response is an answer too: undefined. */
  readonly isOptional: boolean
  take(bytes: Buffer): void
  resolve(value: unknown): void
  reject(error: Error): void
}

/** Where received bytes go: into one buffer, or into several in turn. */
export type Target = Uint8Array | Iterable<Target>

/** Blobs up to this are given their memory at once; beyond it only as their bytes come. */
const AT_ONCE = 1_048_576

export function stageError(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_WIRE_STAGE', message)
}

export abstract class Inlet {
  /** The conversation's number, which the posting end gave it. */
  readonly coSeq: string
  protected readonly link: Link
  protected asks: Ask[] = []
  protected readonly inbox: Packet[] = []
  /** Bytes in the inbox. */
  protected held = 0
  protected isLanding = false
  #isSettling = false

  constructor(link: Link, coSeq: string) {
    this.link = link
    this.coSeq = coSeq
  }

  get ask(): Ask | undefined {
    return this.asks[this.asks.length - 1]
  }

  /** How many raw bytes it waits for: only then may they be taken off the wire. */
  get wantsBytes(): number {
    return this.inbox.length === 0 && this.ask?.want === 'data' ? this.ask.left : 0
  }

  /** Whether the next packet may be taken off the wire for it. */
  abstract get wantsPacket(): boolean

  push(packet: Packet): void {
    this.inbox.push(packet)
    this.#hold(size(packet))
    this.settle()
  }

  /** Hands on what lies in the inbox to those who ask for it. */
  settle(): void {
    if (this.#isSettling) return
    this.#isSettling = true
    try {
      for (let first = this.inbox[0]; first && this.accept(first); first = this.inbox[0]);
    } finally {
      this.#isSettling = false
    }
  }

  /**
   * The next object of the peer, landed here.
   * @throws ManyhostError MANYHOST_WIRE_STAGE, or what ended the conversation
   */
  recvObj(): Promise<unknown> {
    return this.askFor('obj', 0)
  }

  /**
   * Exactly `size` bytes as a Buffer, or bytes into the given buffers until they are full.
   * @throws ManyhostError MANYHOST_WIRE_STAGE, MANYHOST_WIRE_BLOB if the peer sent less
   */
  recvData(size: number): Promise<Buffer>
  recvData(into: Target): Promise<void>
  async recvData(what: number | Target): Promise<unknown> {
    if (typeof what === 'number') return this.#recvBuffer(what)
    for (const buffer of flat(what)) await this.#fill(buffer)
    return undefined
  }

  /** `size` bytes, piece by piece as they come, without copying. Pieces that are not taken hold the peer back. */
  async *recvStream(size: number): AsyncGenerator<Buffer, void, undefined> {
    mustBeSize(size)
    for (let left = size; left > 0; ) {
      let piece: Buffer | undefined
      await this.askFor('data', left, (bytes) => (piece = bytes), { isPartial: true })
      left -= (piece as unknown as Buffer).length
      yield piece as unknown as Buffer
    }
  }

  async #recvBuffer(size: number): Promise<Buffer> {
    mustBeSize(size)
    if (size <= AT_ONCE) {
      let whole: Buffer | undefined
      let at = 0
      await this.askFor('data', size, (bytes) => {
        if (bytes.length === size) whole = bytes
        else {
          whole ??= Buffer.allocUnsafe(size)
          at += bytes.copy(whole, at)
        }
      })
      return whole ?? Buffer.alloc(0)
    }
    const parts: Buffer[] = []
    await this.askFor('data', size, (bytes) => parts.push(bytes))
    return Buffer.concat(parts, size)
  }

  async #fill(buffer: Uint8Array): Promise<void> {
    let at = 0
    await this.askFor('data', buffer.length, (bytes) => {
      buffer.set(bytes, at)
      at += bytes.length
    })
  }

  /** Fails unless something may be received now. */
  protected abstract mustReceive(): void

  protected askFor(
    want: Ask['want'],
    left: number,
    take: (bytes: Buffer) => void = () => {},
    { isPartial = false, isOptional = false } = {},
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.mustReceive()
      if (want === 'data' && left === 0) return resolve(undefined)
      this.asks.push({ want, left, size: left, isPartial, isOptional, take, resolve, reject })
      this.settle()
      this.link.arrivals.pump()
    })
  }

  /** Handles the first packet of the inbox: whether it is done with. */
  protected abstract accept(packet: Packet): boolean

  /** The first packet is done with. */
  protected drop(): void {
    const packet = this.inbox.shift()
    if (packet) this.#hold(-size(packet))
  }

  protected dropAll(): void {
    this.inbox.length = 0
    this.#hold(-this.held)
  }

  #hold(bytes: number): void {
    this.held += bytes
    this.link.arrivals.held += bytes
  }

  /** Gives the bytes to who asks for them. */
  protected feed(packet: Packet, ask: Ask): void {
    const bytes = packet.bytes as Buffer
    this.drop()
    const mine = bytes.length > ask.left ? bytes.subarray(0, ask.left) : bytes
    if (mine.length < bytes.length) {
      const rest = { dir: BLOB, text: '', bytes: bytes.subarray(mine.length) }
      this.inbox.unshift(rest)
      this.#hold(rest.bytes.length)
    }
    ask.left -= mine.length
    ask.take(mine)
    if (ask.left > 0 && !ask.isPartial) return
    this.asks.pop()
    ask.resolve(undefined)
  }

  /** Lands an object for who asks for it. */
  protected landObject(text: string, ask: Ask): void {
    this.asks.pop()
    this.#land(text, ask.resolve, (error) => {
      ask.reject(error)
      this.onLandingFailed(error)
    })
  }

  /** Lands code for its effect. Those who asked before wait until it is done. */
  protected landCode(text: string, use: (value: unknown) => void): void {
    this.#land(text, use, (error) => this.onLandingFailed(error))
  }

  protected abstract onLandingFailed(error: Error): void
  /** All landing is done, and what was asked for by it. */
  protected onLanded(): void {}

  #land(text: string, use: (value: unknown) => void, fail: (error: Error) => void): void {
    const outer = this.asks
    const wasLanding = this.isLanding
    this.asks = []
    this.isLanding = true
    const restore = (): void => {
      // What the function asked for and did not wait for is still asked for.
      this.asks = [...outer, ...this.asks]
      this.isLanding = wasLanding
    }
    let result: unknown
    let isLater: boolean
    try {
      result = this.link.land(text, this)
      // A getter `then` of what a function answered is code of a user, too.
      isLater = isPromise(result)
    } catch (error) {
      restore()
      fail(asError(error))
      return
    }
    if (!isLater) {
      restore()
      use(result)
      return
    }
    const resume = (): void => {
      this.settle()
      if (!this.isLanding) this.onLanded()
      this.link.arrivals.pump()
    }
    // It settles once, whatever the promise of a function does.
    Promise.resolve(result).then(
      (value) => {
        restore()
        use(value)
        resume()
      },
      (error) => {
        restore()
        fail(asError(error))
        resume()
      },
    )
  }

  protected rejectAsks(error: Error): void {
    for (const ask of this.asks.splice(0)) ask.reject(error)
  }
}

/** What an ask for bytes is told when there are no more of them. */
export function shortOf(ask: Ask): ManyhostError {
  return new ManyhostError(
    'MANYHOST_WIRE_BLOB',
    `the blob is shorter than announced: ${ask.size - ask.left} of ${ask.size} bytes came`,
  )
}

export function tooLong(packet: Packet): ManyhostError {
  return new ManyhostError(
    'MANYHOST_WIRE_BLOB',
    `the blob is longer than announced: ${packet.bytes?.length} bytes that nobody asked for`,
  )
}

function size(packet: Packet): number {
  return packet.bytes?.length ?? packet.text.length
}

function mustBeSize(size: number): void {
  if (!Number.isSafeInteger(size) || size < 0) {
    throw new ManyhostError('MANYHOST_WIRE_BLOB', `a blob cannot have ${size} bytes`)
  }
}

function* flat(target: Target): Generator<Uint8Array> {
  if (target instanceof Uint8Array) yield target
  else for (const one of target) yield* flat(one)
}
