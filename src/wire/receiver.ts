/** What posting and hosting conversations have in common: taking what comes off the wire, in order, when it is asked for. */
import { asError, ManyhostError } from '../core/errors.ts'
import { isPromiseLike } from '../core/promise.ts'
import { BLOB_DIRECTION, type Packet } from './frames.ts'
import type { ConversationLink, PendingReceive, ReceivingConversation } from './link-types.ts'

/** Where received bytes go: into one buffer, or into several in turn. */
export type ReceiveTarget = Uint8Array | Iterable<ReceiveTarget>

/** Blobs up to this are given their memory at once; beyond it only as their bytes come. */
const MAX_PREALLOCATED_BYTES = 1_048_576

export abstract class ConversationReceiver implements ReceivingConversation {
  /** The conversation's number, which the posting end gave it. */
  readonly coSeq: string
  protected readonly link: ConversationLink
  protected pendingReceives: PendingReceive[] = []
  protected readonly inbox: Packet[] = []
  /** Bytes in the inbox. */
  protected heldBytes = 0
  protected isLanding = false
  #isDelivering = false

  constructor(link: ConversationLink, coSeq: string) {
    this.link = link
    this.coSeq = coSeq
  }

  get pendingReceive(): PendingReceive | undefined {
    return this.pendingReceives[this.pendingReceives.length - 1]
  }

  /** How many raw bytes it waits for: only then may they be taken off the wire. */
  get wantsBytes(): number {
    return this.inbox.length === 0 && this.pendingReceive?.kind === 'data'
      ? this.pendingReceive.missingBytes
      : 0
  }

  /** Whether the next packet may be taken off the wire for it. */
  abstract get wantsPacket(): boolean

  pushPacket(packet: Packet): void {
    this.inbox.push(packet)
    this.#addHeldBytes(getPacketBytes(packet))
    this.deliverInbox()
  }

  /** Hands on what lies in the inbox to those who ask for it. */
  deliverInbox(): void {
    if (this.#isDelivering) return
    this.#isDelivering = true
    try {
      for (let first = this.inbox[0]; first && this.handlePacket(first); first = this.inbox[0]);
    } finally {
      this.#isDelivering = false
    }
  }

  /**
   * The next object of the peer, landed here.
   * @throws ManyhostError MANYHOST_WIRE_STAGE, or what ended the conversation
   */
  recvObj(): Promise<unknown> {
    return this.requestReceive('obj', 0)
  }

  /**
   * Exactly `size` bytes as a Buffer, or bytes into the given buffers until they are full.
   * @throws ManyhostError MANYHOST_WIRE_STAGE, MANYHOST_WIRE_BLOB if the peer sent less
   */
  recvData(size: number): Promise<Buffer>
  recvData(into: ReceiveTarget): Promise<void>
  async recvData(what: number | ReceiveTarget): Promise<unknown> {
    if (typeof what === 'number') return this.#receiveBuffer(what)
    for (const buffer of flattenTarget(what)) await this.#receiveInto(buffer)
    return undefined
  }

  /** `size` bytes, piece by piece as they come, without copying. Pieces that are not taken hold the peer back. */
  async *recvStream(size: number): AsyncGenerator<Buffer, void, undefined> {
    assertBlobSize(size)
    for (let left = size; left > 0; ) {
      let piece: Buffer | undefined
      await this.requestReceive('data', left, (bytes) => (piece = bytes), { isPartial: true })
      left -= (piece as unknown as Buffer).length
      yield piece as unknown as Buffer
    }
  }

  async #receiveBuffer(size: number): Promise<Buffer> {
    assertBlobSize(size)
    if (size <= MAX_PREALLOCATED_BYTES) {
      let whole: Buffer | undefined
      let at = 0
      await this.requestReceive('data', size, (bytes) => {
        if (bytes.length === size) whole = bytes
        else {
          whole ??= Buffer.allocUnsafe(size)
          at += bytes.copy(whole, at)
        }
      })
      return whole ?? Buffer.alloc(0)
    }
    const parts: Buffer[] = []
    await this.requestReceive('data', size, (bytes) => parts.push(bytes))
    return Buffer.concat(parts, size)
  }

  async #receiveInto(buffer: Uint8Array): Promise<void> {
    let at = 0
    await this.requestReceive('data', buffer.length, (bytes) => {
      buffer.set(bytes, at)
      at += bytes.length
    })
  }

  /** Fails unless something may be received now. */
  protected abstract assertMayReceive(): void

  protected requestReceive(
    want: PendingReceive['kind'],
    left: number,
    take: (bytes: Buffer) => void = () => {},
    { isPartial = false, isOptional = false } = {},
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.assertMayReceive()
      if (want === 'data' && left === 0) return resolve(undefined)
      this.pendingReceives.push({
        kind: want,
        missingBytes: left,
        totalBytes: left,
        isPartial,
        isOptional,
        onBytes: take,
        resolve,
        reject,
      })
      this.deliverInbox()
      this.link.demultiplexer.pump()
    })
  }

  /** Handles the first packet of the inbox: whether it is done with. */
  protected abstract handlePacket(packet: Packet): boolean

  /** The first packet is done with. */
  protected dropPacket(): void {
    const packet = this.inbox.shift()
    if (packet) this.#addHeldBytes(-getPacketBytes(packet))
  }

  protected dropInbox(): void {
    this.inbox.length = 0
    this.#addHeldBytes(-this.heldBytes)
  }

  #addHeldBytes(bytes: number): void {
    this.heldBytes += bytes
    this.link.demultiplexer.heldBytes += bytes
  }

  /** Gives the bytes to who asks for them. */
  protected deliverBytes(packet: Packet, ask: PendingReceive): void {
    const bytes = packet.bytes as Buffer
    this.dropPacket()
    const mine = bytes.length > ask.missingBytes ? bytes.subarray(0, ask.missingBytes) : bytes
    if (mine.length < bytes.length) {
      const rest = { direction: BLOB_DIRECTION, text: '', bytes: bytes.subarray(mine.length) }
      this.inbox.unshift(rest)
      this.#addHeldBytes(rest.bytes.length)
    }
    ask.missingBytes -= mine.length
    ask.onBytes(mine)
    if (ask.missingBytes > 0 && !ask.isPartial) return
    this.pendingReceives.pop()
    ask.resolve(undefined)
  }

  /** Lands an object for who asks for it. */
  protected landObject(text: string, ask: PendingReceive): void {
    this.pendingReceives.pop()
    this.#landText(text, ask.resolve, (error) => {
      ask.reject(error)
      this.onLandingFailed(error)
    })
  }

  /** Lands code for its effect. Those who asked before wait until it is done. */
  protected landCode(text: string, use: (value: unknown) => void): void {
    this.#landText(text, use, (error) => this.onLandingFailed(error))
  }

  protected abstract onLandingFailed(error: Error): void
  /** All landing is done, and what was asked for by it. */
  protected onLanded(): void {}

  #landText(text: string, use: (value: unknown) => void, fail: (error: Error) => void): void {
    const outer = this.pendingReceives
    const wasLanding = this.isLanding
    this.pendingReceives = []
    this.isLanding = true
    const restore = (): void => {
      // What the function asked for and did not wait for is still asked for.
      this.pendingReceives = [...outer, ...this.pendingReceives]
      this.isLanding = wasLanding
    }
    let result: unknown
    let isLater: boolean
    try {
      result = this.link.landText(text, this)
      // A getter `then` of what a function answered is code of a user, too.
      isLater = isPromiseLike(result)
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
      this.deliverInbox()
      if (!this.isLanding) this.onLanded()
      this.link.demultiplexer.pump()
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

  protected rejectReceives(error: Error): void {
    for (const ask of this.pendingReceives.splice(0)) ask.reject(error)
  }
}

/** What an ask for bytes is told when there are no more of them. */
export function createBlobTooShortError(ask: PendingReceive): ManyhostError {
  return new ManyhostError(
    'MANYHOST_WIRE_BLOB',
    `the blob is shorter than announced: ${ask.totalBytes - ask.missingBytes} of ${ask.totalBytes} bytes came`,
  )
}

export function createBlobTooLongError(packet: Packet): ManyhostError {
  return new ManyhostError(
    'MANYHOST_WIRE_BLOB',
    `the blob is longer than announced: ${packet.bytes?.length} bytes that nobody asked for`,
  )
}

function getPacketBytes(packet: Packet): number {
  return packet.bytes?.length ?? packet.text.length
}

function assertBlobSize(size: number): void {
  if (!Number.isSafeInteger(size) || size < 0) {
    throw new ManyhostError('MANYHOST_WIRE_BLOB', `a blob cannot have ${size} bytes`)
  }
}

function* flattenTarget(target: ReceiveTarget): Generator<Uint8Array> {
  if (target instanceof Uint8Array) yield target
  else for (const one of target) yield* flattenTarget(one)
}
