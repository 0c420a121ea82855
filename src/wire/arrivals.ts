/** What comes off the wire, and the conversation that it is for: packets are taken when somebody wants one. */
import { describe, ManyhostError } from '../core/errors.ts'
import { type Packet, protocolError } from './frames.ts'
import { HoCo } from './hoco.ts'
import { stageError } from './inlet.ts'
import { land } from './land.ts'
import type { Link } from './link.ts'
import type { PoCo } from './poco.ts'

/** Packets that are looked at ahead of their turn, at most. */
const AHEAD_MAX = 10_000

/** Somebody waits for an object that comes outside of a response. */
export interface Awaited {
  readonly co: PoCo
  resolve(value: unknown): void
  reject(error: Error): void
}

export class Arrivals {
  /** Bytes in all inboxes. */
  held = 0
  readonly #link: Link
  /** Whose packets come now. */
  #receiver: HoCo | PoCo | undefined
  /** Packets that were looked at before their turn. */
  #ahead: Packet[] = []
  #aheadBytes = 0
  #objects: Awaited[] = []
  #isPumping = false
  #isStarved = true
  #isEof = false

  constructor(link: Link) {
    this.#link = link
  }

  /** Bytes that wait here to be taken, and for how long the peer is not read because of them. */
  get backlog(): number {
    return this.#link.frames.buffered + this.#aheadBytes + this.held
  }

  /** Whether we wait for the rest of something that the peer has begun to send. */
  get isAmid(): boolean {
    const ask = this.#receiver?.ask
    return this.#link.frames.isAmid || (ask?.want === 'data' && ask.left < ask.size)
  }

  push(chunk: Buffer): void {
    this.#link.frames.push(chunk)
    this.pump()
  }

  /** The peer sends no more. */
  eof(): void {
    this.#isEof = true
    this.pump()
  }

  /** The link has ended: nobody gets anything any more. */
  end(error: Error): void {
    for (const { reject } of this.#objects.splice(0)) reject(error)
    this.#ahead = []
  }

  awaitObject(awaited: Awaited): void {
    this.#objects.push(awaited)
  }

  /** The objects that `getObj` of a conversation waits for will not come. */
  failObjects(co: PoCo, known?: Error): void {
    if (this.#objects.length === 0) return
    // An error costs more than a whole call: it is made for those who wait alone.
    const error = known ?? stageError('the peer sent no object')
    const [lost, kept]: [Awaited[], Awaited[]] = [[], []]
    for (const awaited of this.#objects) (awaited.co === co ? lost : kept).push(awaited)
    this.#objects = kept
    for (const { reject } of lost) reject(error)
  }

  /** The conversation that was being received has all of it. */
  receiverLeft(conversation: HoCo | PoCo): void {
    if (this.#receiver === conversation) this.#receiver = undefined
  }

  /** Takes what there is off the wire, as far as somebody wants it. */
  pump(): void {
    if (this.#isPumping || !this.#link.isUp) return
    this.#isPumping = true
    this.#isStarved = false
    try {
      while (this.#step());
      if (this.#link.frames.isFramed && !this.#isStarved) this.#lookAhead()
    } catch (error) {
      this.#fault(error)
    } finally {
      this.#isPumping = false
    }
    this.#regulate()
    if (this.#isEof) this.#finish()
  }

  /** One packet, or a piece of a blob: whether there may be more to do. */
  #step(): boolean {
    const receiver = this.#receiver
    if (!receiver) {
      const packet = this.#next()
      return packet !== undefined && this.#open(packet)
    }
    if (!this.#link.frames.isFramed && receiver.wantsBytes > 0) {
      const bytes = this.#link.frames.readRaw(receiver.wantsBytes)
      this.#isStarved = bytes === undefined
      if (bytes) receiver.push({ dir: 'blob', text: '', bytes })
      return bytes !== undefined
    }
    if (!receiver.wantsPacket) return false
    const packet = this.#next()
    if (!packet) return false
    if (packet.dir === 'err') this.#peerFailed(packet.text)
    else receiver.push(packet)
    return this.#link.isUp
  }

  /** A packet outside of all conversations. */
  #open(packet: Packet): boolean {
    const { dir, text } = packet
    switch (dir) {
      case 'co_begin':
        return this.#host(packet)
      case 'co_ack_begin': {
        const co = this.#link.pending.get(text)
        if (!co)
          throw protocolError(`co_ack_begin for ${JSON.stringify(text)}, which is not pending`)
        this.#receiver = co
        co.begin()
        return true
      }
      case 'co_recv': {
        const awaited = this.#objects.shift()
        if (!awaited) throw protocolError(`No active conversation to receive object:\n${text}`)
        this.#deliver(awaited, text)
        return true
      }
      case 'co_cancel':
        return true
      case 'err':
        this.#peerFailed(text)
        return false
      default:
        throw protocolError(`COKEEPER unexpected packet: [#${dir}]${text}`)
    }
  }

  #host(packet: Packet): boolean {
    const link = this.#link
    const { text: coSeq } = packet
    if (coSeq === '' || coSeq.length > 32) throw protocolError('co_begin without a number')
    if (link.hosted.has(coSeq))
      throw protocolError(`co_begin ${coSeq} again, before it was answered`)
    if (link.greeter?.isStrict && !link.isGreeting(coSeq)) {
      const message = 'authentication required'
      void link.disconnect(message, true, new ManyhostError('MANYHOST_WIRE_AUTH', message))
      return false
    }
    if (link.outlet.isFull || link.hosted.size >= link.settings.maxHosted) {
      this.#ahead.unshift(packet)
      this.#aheadBytes += packet.text.length
      return false
    }
    link.counts.hosted++
    this.#receiver = new HoCo(link, coSeq)
    return true
  }

  #deliver({ resolve, reject }: Awaited, text: string): void {
    try {
      resolve(land(text, this.#link.environment, (call) => call()))
    } catch (error) {
      reject(error as Error)
    }
  }

  #next(): Packet | undefined {
    const packet = this.#ahead.shift()
    if (packet) {
      this.#aheadBytes -= packet.bytes?.length ?? packet.text.length
      return packet
    }
    const read = this.#read()
    this.#isStarved = read === undefined
    return read
  }

  /** The next packet off the wire; what is for the link itself is heeded at once. */
  #read(): Packet | undefined {
    const { frames, handover, hosted } = this.#link
    while (!handover.isTheirs) {
      const packet = frames.read()
      if (!packet) return undefined
      if (!frames.isFramed) return packet
      if (packet.dir === 'release') handover.hear()
      else if (packet.dir === 'co_cancel') {
        hosted.get(packet.text)?.cancel()
        return packet
      } else if (packet.dir !== 'beat') return packet
    }
    return undefined
  }

  /** Reads on for beats and for what cancels, though it is not the turn of the packets between. */
  #lookAhead(): void {
    while (
      this.#aheadBytes + this.held < this.#link.settings.wireBufHigh &&
      this.#ahead.length < AHEAD_MAX
    ) {
      const packet = this.#read()
      if (!packet) return
      this.#ahead.push(packet)
      this.#aheadBytes += packet.bytes?.length ?? packet.text.length
    }
  }

  #regulate(): void {
    const { isUp, settings, socket } = this.#link
    if (!isUp) return
    if (this.backlog > settings.wireBufHigh) socket.pause()
    else if (this.backlog <= settings.wireBufLow && socket.isPaused()) socket.resume()
  }

  /** The peer sends no more: once all that it sent is done, and answered, the link ends. */
  #finish(): void {
    const link = this.#link
    if (!link.isUp || !this.#isStarved) return
    const receiver = this.#receiver
    if (receiver || link.frames.isAmid) {
      const what = receiver ? `conversation ${receiver.coSeq}` : 'a packet'
      void link.disconnect(`the peer left in the middle of ${what}`)
    } else if (link.hosted.size === 0) void link.disconnect(undefined)
  }

  #fault(error: unknown): void {
    const known = error instanceof ManyhostError ? error : undefined
    void this.#link.disconnect(describe(error), true, known)
  }

  #peerFailed(text: string): void {
    void this.#link.disconnect(`peer error: ${text}`, false)
  }
}
