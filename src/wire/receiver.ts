/** The receiving half of a conversation, posted or hosted: packets are taken in order, when a receive asks for them. */
import { describe } from '../core/describe.ts'
import { asError, ManyhostError } from '../core/errors.ts'
import { isPromiseLike } from '../core/promise.ts'
import { BLOB_DIRECTION, type Packet } from './frames.ts'
import type { ConversationLink, PendingReceive, ReceivingConversation } from './link-types.ts'

/** Where received bytes are written: one buffer, or several, one after the other. */
export type ReceiveTarget = Uint8Array | Iterable<ReceiveTarget>

/** A larger blob gets its memory only as its bytes arrive: its announced size may be a lie. */
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

  /** Raw bytes that it waits for: only then may they be taken off the wire. */
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

  /** Handles the packets of the inbox, as far as receives ask for them. */
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
   * The next object from the peer, landed here.
   * @throws ManyhostError MANYHOST_WIRE_STAGE, or the error that ended the conversation
   */
  recvObj(): Promise<unknown> {
    return this.requestReceive('obj', 0)
  }

  /**
   * Receives exactly `size` bytes as a Buffer; or fills the given buffers.
   * @throws ManyhostError MANYHOST_WIRE_STAGE, MANYHOST_WIRE_BLOB if the peer sent less
   */
  recvData(size: number): Promise<Buffer>
  recvData(into: ReceiveTarget): Promise<void>
  async recvData(sizeOrTarget: number | ReceiveTarget): Promise<unknown> {
    if (typeof sizeOrTarget === 'number') return this.#receiveBuffer(sizeOrTarget)
    for (const buffer of flattenTarget(sizeOrTarget)) await this.#receiveInto(buffer)
    return undefined
  }

  /** Receives `size` bytes, piece by piece as they arrive, without copying. A slow reader slows the peer down. */
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

  /** @throws ManyhostError unless the stage allows receiving */
  protected abstract assertMayReceive(): void

  protected requestReceive(
    kind: PendingReceive['kind'],
    size: number,
    onBytes: (bytes: Buffer) => void = () => {},
    { isPartial = false, isOptional = false } = {},
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.assertMayReceive()
      if (kind === 'data' && size === 0) return resolve(undefined)
      this.pendingReceives.push({
        kind,
        missingBytes: size,
        totalBytes: size,
        isPartial,
        isOptional,
        onBytes,
        resolve,
        reject,
      })
      this.deliverInbox()
      this.link.demultiplexer.pump()
    })
  }

  /** Handles the first packet of the inbox. Returns whether the next one may be handled now. */
  protected abstract handlePacket(packet: Packet): boolean

  /** Removes the first packet of the inbox. */
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

  /** Passes the bytes of a blob to a receive. */
  protected deliverBytes(packet: Packet, receive: PendingReceive): void {
    const bytes = packet.bytes as Buffer
    this.dropPacket()
    const wanted =
      bytes.length > receive.missingBytes ? bytes.subarray(0, receive.missingBytes) : bytes
    if (wanted.length < bytes.length) {
      const rest = { direction: BLOB_DIRECTION, text: '', bytes: bytes.subarray(wanted.length) }
      this.inbox.unshift(rest)
      this.#addHeldBytes(rest.bytes.length)
    }
    receive.missingBytes -= wanted.length
    receive.onBytes(wanted)
    if (receive.missingBytes > 0 && !receive.isPartial) return
    this.pendingReceives.pop()
    receive.resolve(undefined)
  }

  /** Lands an object for a receive. */
  protected landObject(text: string, receive: PendingReceive): void {
    this.pendingReceives.pop()
    this.#landText(text, receive.resolve, (error) => {
      receive.reject(error)
      this.onLandingFailed(error)
    })
  }

  /** Lands code for its effect. Receives that were pending before wait until the code is done. */
  protected landCode(text: string, onValue: (value: unknown) => void): void {
    this.#landText(text, onValue, (error) => this.onLandingFailed(error))
  }

  protected abstract onLandingFailed(error: Error): void
  /** Called when landed code that returned a promise is done. */
  protected onLanded(): void {}

  #landText(
    text: string,
    onValue: (value: unknown) => void,
    onError: (error: Error) => void,
  ): void {
    const outerReceives = this.pendingReceives
    const wasLanding = this.isLanding
    this.pendingReceives = []
    this.isLanding = true
    const restore = (): void => {
      // Receives that the function started and did not await stay pending.
      this.pendingReceives = [...outerReceives, ...this.pendingReceives]
      this.isLanding = wasLanding
    }
    let result: unknown
    let isPending: boolean
    try {
      result = this.link.landText(text, this)
      // Inside the try: a getter `then` of the result is the user's code, too.
      isPending = isPromiseLike(result)
    } catch (error) {
      restore()
      onError(asError(error))
      return
    }
    if (!isPending) {
      restore()
      onValue(result)
      return
    }
    const resume = (): void => {
      this.deliverInbox()
      if (!this.isLanding) this.onLanded()
      this.link.demultiplexer.pump()
    }
    // `Promise.resolve` makes a promise that settles once, whatever the function's own promise does.
    Promise.resolve(result).then(
      (value) => {
        restore()
        onValue(value)
        resume()
      },
      (error) => {
        restore()
        onError(asError(error))
        resume()
      },
    )
  }

  protected rejectReceives(error: Error): void {
    for (const receive of this.pendingReceives.splice(0)) receive.reject(error)
  }
}

export function createBlobTooShortError(receive: PendingReceive): ManyhostError {
  return new ManyhostError(
    'MANYHOST_WIRE_BLOB',
    `the blob is shorter than announced: ${receive.totalBytes - receive.missingBytes} of ${receive.totalBytes} bytes arrived`,
  )
}

export function createBlobTooLongError(packet: Packet): ManyhostError {
  return new ManyhostError(
    'MANYHOST_WIRE_BLOB',
    `the blob is longer than announced: ${packet.bytes?.length} bytes arrived that no receive asked for`,
  )
}

function getPacketBytes(packet: Packet): number {
  return packet.bytes?.length ?? packet.text.length
}

function assertBlobSize(size: number): void {
  if (!Number.isSafeInteger(size) || size < 0) {
    throw new ManyhostError(
      'MANYHOST_WIRE_BLOB',
      `the size of a blob must be a whole number of bytes from 0 up, got ${describe(size)}`,
    )
  }
}

function* flattenTarget(target: ReceiveTarget): Generator<Uint8Array> {
  if (target instanceof Uint8Array) yield target
  else for (const part of target) yield* flattenTarget(part)
}
