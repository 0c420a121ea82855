/** Passes the packets of the wire to their conversations. A packet is taken when a conversation wants it. */
import type { Duplex } from 'node:stream'
import { describeError, ManyhostError } from '../core/errors.ts'
import { createProtocolError, createStageError } from './errors.ts'
import type { Packet, PacketParser } from './frames.ts'
import { HoCo } from './hoco.ts'
import { land } from './land.ts'
import type {
  AwaitedObject,
  ConversationLink,
  HostedConversation,
  LinkCounts,
  PacketSource,
  PostedConversation,
  ReceivingConversation,
} from './link-types.ts'
import type { LandingEnvironment } from './names.ts'
import type { ReleaseAgreement } from './release.ts'

/** Maximum number of packets that are read ahead of their turn. */
const MAX_LOOKAHEAD = 10_000

/** The link, as the demultiplexer sees it. */
interface DemultiplexedLink extends ConversationLink {
  readonly parser: PacketParser
  readonly environment: LandingEnvironment
  readonly releaseAgreement: ReleaseAgreement
  readonly socket: Duplex
  readonly counts: LinkCounts
}

export class Demultiplexer implements PacketSource {
  /** Bytes in the inboxes of all conversations. */
  heldBytes = 0
  readonly #link: DemultiplexedLink
  /** The conversation whose packets arrive now. */
  #receiver: HostedConversation | PostedConversation | undefined
  /** Packets that were read ahead of their turn. */
  #lookahead: Packet[] = []
  #lookaheadBytes = 0
  #awaitedObjects: AwaitedObject[] = []
  #isPumping = false
  #needsMoreBytes = true
  #hasPeerEnded = false

  constructor(link: DemultiplexedLink) {
    this.#link = link
  }

  /** Received bytes that wait to be taken. If there are too many, the peer is not read. */
  get backlog(): number {
    return this.#link.parser.buffered + this.#lookaheadBytes + this.heldBytes
  }

  /** Whether the peer has begun to send a packet or a blob, and has not finished. */
  get isMidMessage(): boolean {
    const receive = this.#receiver?.pendingReceive
    return (
      this.#link.parser.isMidPacket ||
      (receive?.kind === 'data' && receive.missingBytes < receive.totalBytes)
    )
  }

  push(chunk: Buffer): void {
    this.#link.parser.push(chunk)
    this.pump()
  }

  /** The peer has half-closed the connection. */
  onPeerEnd(): void {
    this.#hasPeerEnded = true
    this.pump()
  }

  /** The link has ended: pending `getObj` calls reject. */
  stop(error: Error): void {
    for (const { reject } of this.#awaitedObjects.splice(0)) reject(error)
    this.#lookahead = []
  }

  awaitObject(awaited: AwaitedObject): void {
    this.#awaitedObjects.push(awaited)
  }

  /** The objects that a conversation's `getObj` waits for will not come: rejects these calls. */
  rejectAwaitedObjects(co: object, reason?: Error): void {
    if (this.#awaitedObjects.length === 0) return
    // An error costs more time than a whole call, so that it is made only if some call waits.
    const error = reason ?? createStageError('the peer sent no object')
    const [lost, kept]: [AwaitedObject[], AwaitedObject[]] = [[], []]
    for (const awaited of this.#awaitedObjects) (awaited.co === co ? lost : kept).push(awaited)
    this.#awaitedObjects = kept
    for (const { reject } of lost) reject(error)
  }

  /** The conversation has received all of its packets. */
  releaseReceiver(conversation: ReceivingConversation): void {
    if (this.#receiver === conversation) this.#receiver = undefined
  }

  /** Takes packets off the wire, as long as a conversation wants them. */
  pump(): void {
    if (this.#isPumping || !this.#link.isUp) return
    this.#isPumping = true
    this.#needsMoreBytes = false
    try {
      while (this.#processNext());
      if (this.#link.parser.isFramed && !this.#needsMoreBytes) this.#lookAhead()
    } catch (error) {
      this.#disconnectWithError(error)
    } finally {
      this.#isPumping = false
    }
    this.#pauseOrResumeSocket()
    if (this.#hasPeerEnded) this.#disconnectWhenDone()
  }

  /** Handles one packet, or one piece of a blob. Returns whether there may be more to do. */
  #processNext(): boolean {
    const receiver = this.#receiver
    if (!receiver) {
      const packet = this.#nextPacket()
      return packet !== undefined && this.#dispatchPacket(packet)
    }
    if (!this.#link.parser.isFramed && receiver.wantsBytes > 0) {
      const bytes = this.#link.parser.readBytes(receiver.wantsBytes)
      this.#needsMoreBytes = bytes === undefined
      if (bytes) receiver.pushPacket({ direction: 'blob', text: '', bytes })
      return bytes !== undefined
    }
    if (!receiver.wantsPacket) return false
    const packet = this.#nextPacket()
    if (!packet) return false
    if (packet.direction === 'err') this.#disconnectForPeerError(packet.text)
    else receiver.pushPacket(packet)
    return this.#link.isUp
  }

  /** Handles a packet outside of all conversations. */
  #dispatchPacket(packet: Packet): boolean {
    const { direction, text } = packet
    switch (direction) {
      case 'co_begin':
        return this.#beginHosted(packet)
      case 'co_ack_begin': {
        const co = this.#link.pending.get(text)
        if (!co)
          throw createProtocolError(
            `co_ack_begin for ${JSON.stringify(text)}, which is not pending`,
          )
        this.#receiver = co
        co.onResponseBegin()
        return true
      }
      case 'co_recv': {
        const awaited = this.#awaitedObjects.shift()
        if (!awaited)
          throw createProtocolError(`No active conversation to receive object:\n${text}`)
        this.#resolveObject(awaited, text)
        return true
      }
      case 'co_cancel':
        return true
      case 'err':
        this.#disconnectForPeerError(text)
        return false
      default:
        throw createProtocolError(`COKEEPER unexpected packet: [#${direction}]${text}`)
    }
  }

  #beginHosted(packet: Packet): boolean {
    const link = this.#link
    const { text: coSeq } = packet
    if (coSeq === '' || coSeq.length > 32) throw createProtocolError('co_begin without a number')
    if (link.hosted.has(coSeq))
      throw createProtocolError(`co_begin ${coSeq} again, before it was answered`)
    if (link.greeter?.isStrict && !link.isGreeting(coSeq)) {
      const message = 'authentication required'
      void link.disconnect(message, true, new ManyhostError('MANYHOST_WIRE_AUTH', message))
      return false
    }
    if (link.sender.isFull || link.hosted.size >= link.settings.maxHosted) {
      this.#lookahead.unshift(packet)
      this.#lookaheadBytes += packet.text.length
      return false
    }
    link.counts.hosted++
    this.#receiver = new HoCo(link, coSeq)
    return true
  }

  #resolveObject({ resolve, reject }: AwaitedObject, text: string): void {
    try {
      resolve(land(text, this.#link.environment, (call) => call()))
    } catch (error) {
      reject(error as Error)
    }
  }

  #nextPacket(): Packet | undefined {
    const packet = this.#lookahead.shift()
    if (packet) {
      this.#lookaheadBytes -= packet.bytes?.length ?? packet.text.length
      return packet
    }
    const read = this.#readPacket()
    this.#needsMoreBytes = read === undefined
    return read
  }

  /** The next packet off the wire. Packets for the link itself take effect at once. */
  #readPacket(): Packet | undefined {
    const { parser, releaseAgreement, hosted } = this.#link
    while (!releaseAgreement.isRequestedByPeer) {
      const packet = parser.readPacket()
      if (!packet) return undefined
      if (!parser.isFramed) return packet
      if (packet.direction === 'release') releaseAgreement.onPeerRequest()
      else if (packet.direction === 'co_cancel') {
        hosted.get(packet.text)?.cancel()
        return packet
      } else if (packet.direction !== 'beat') return packet
    }
    return undefined
  }

  /** Reads ahead, so that beats and cancellations take effect though the packets before them must still wait. */
  #lookAhead(): void {
    while (
      this.#lookaheadBytes + this.heldBytes < this.#link.settings.wireBufHigh &&
      this.#lookahead.length < MAX_LOOKAHEAD
    ) {
      const packet = this.#readPacket()
      if (!packet) return
      this.#lookahead.push(packet)
      this.#lookaheadBytes += packet.bytes?.length ?? packet.text.length
    }
  }

  #pauseOrResumeSocket(): void {
    const { isUp, settings, socket } = this.#link
    if (!isUp) return
    if (this.backlog > settings.wireBufHigh) socket.pause()
    else if (this.backlog <= settings.wireBufLow && socket.isPaused()) socket.resume()
  }

  /** After a half-close: ends the link when everything that the peer sent is done and answered. */
  #disconnectWhenDone(): void {
    const link = this.#link
    if (!link.isUp || !this.#needsMoreBytes) return
    const receiver = this.#receiver
    if (receiver || link.parser.isMidPacket) {
      const unfinished = receiver ? `conversation ${receiver.coSeq}` : 'a packet'
      void link.disconnect(`the peer left in the middle of ${unfinished}`)
    } else if (link.hosted.size === 0) void link.disconnect(undefined)
  }

  #disconnectWithError(error: unknown): void {
    const known = error instanceof ManyhostError ? error : undefined
    void this.#link.disconnect(describeError(error), true, known)
  }

  #disconnectForPeerError(text: string): void {
    void this.#link.disconnect(`peer error: ${text}`, false)
  }
}
