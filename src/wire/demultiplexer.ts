/** What comes off the wire, and the conversation that it is for: packets are taken when somebody wants one. */
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

/** Packets that are looked at ahead of their turn, at most. */
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
  /** Bytes in all inboxes. */
  heldBytes = 0
  readonly #link: DemultiplexedLink
  /** Whose packets come now. */
  #receiver: HostedConversation | PostedConversation | undefined
  /** Packets that were looked at before their turn. */
  #lookahead: Packet[] = []
  #lookaheadBytes = 0
  #awaitedObjects: AwaitedObject[] = []
  #isPumping = false
  #needsMoreBytes = true
  #hasPeerEnded = false

  constructor(link: DemultiplexedLink) {
    this.#link = link
  }

  /** Bytes that wait here to be taken, and for how long the peer is not read because of them. */
  get backlog(): number {
    return this.#link.parser.buffered + this.#lookaheadBytes + this.heldBytes
  }

  /** Whether we wait for the rest of something that the peer has begun to send. */
  get isMidMessage(): boolean {
    const ask = this.#receiver?.pendingReceive
    return (
      this.#link.parser.isMidPacket || (ask?.kind === 'data' && ask.missingBytes < ask.totalBytes)
    )
  }

  push(chunk: Buffer): void {
    this.#link.parser.push(chunk)
    this.pump()
  }

  /** The peer sends no more. */
  onPeerEnd(): void {
    this.#hasPeerEnded = true
    this.pump()
  }

  /** The link has ended: nobody gets anything any more. */
  stop(error: Error): void {
    for (const { reject } of this.#awaitedObjects.splice(0)) reject(error)
    this.#lookahead = []
  }

  awaitObject(awaited: AwaitedObject): void {
    this.#awaitedObjects.push(awaited)
  }

  /** The objects that `getObj` of a conversation waits for will not come. */
  rejectAwaitedObjects(co: object, known?: Error): void {
    if (this.#awaitedObjects.length === 0) return
    // An error costs more than a whole call: it is made for those who wait alone.
    const error = known ?? createStageError('the peer sent no object')
    const [lost, kept]: [AwaitedObject[], AwaitedObject[]] = [[], []]
    for (const awaited of this.#awaitedObjects) (awaited.co === co ? lost : kept).push(awaited)
    this.#awaitedObjects = kept
    for (const { reject } of lost) reject(error)
  }

  /** The conversation that was being received has all of it. */
  releaseReceiver(conversation: ReceivingConversation): void {
    if (this.#receiver === conversation) this.#receiver = undefined
  }

  /** Takes what there is off the wire, as far as somebody wants it. */
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

  /** One packet, or a piece of a blob: whether there may be more to do. */
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

  /** A packet outside of all conversations. */
  #dispatchPacket(packet: Packet): boolean {
    const { direction: dir, text } = packet
    switch (dir) {
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
        throw createProtocolError(`COKEEPER unexpected packet: [#${dir}]${text}`)
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

  /** The next packet off the wire; what is for the link itself is heeded at once. */
  #readPacket(): Packet | undefined {
    const { parser: frames, releaseAgreement: handover, hosted } = this.#link
    while (!handover.isRequestedByPeer) {
      const packet = frames.readPacket()
      if (!packet) return undefined
      if (!frames.isFramed) return packet
      if (packet.direction === 'release') handover.onPeerRequest()
      else if (packet.direction === 'co_cancel') {
        hosted.get(packet.text)?.cancel()
        return packet
      } else if (packet.direction !== 'beat') return packet
    }
    return undefined
  }

  /** Reads on for beats and for what cancels, though it is not the turn of the packets between. */
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

  /** The peer sends no more: once all that it sent is done, and answered, the link ends. */
  #disconnectWhenDone(): void {
    const link = this.#link
    if (!link.isUp || !this.#needsMoreBytes) return
    const receiver = this.#receiver
    if (receiver || link.parser.isMidPacket) {
      const what = receiver ? `conversation ${receiver.coSeq}` : 'a packet'
      void link.disconnect(`the peer left in the middle of ${what}`)
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
