/** The hosted conversation: code of the peer is landed here. Its stages: recv, work, send, closed. */
import { asError, describeError, ManyhostError } from '../core/errors.ts'
import { Conversation } from './conversation.ts'
import { createProtocolError, createStageError } from './errors.ts'
import { BLOB_DIRECTION, type Packet } from './frames.ts'
import { HELLO_NUMBER } from './greeting.ts'
import type { ConversationLink, HostedConversation, PendingReceive } from './link-types.ts'
import { createBlobTooLongError, createBlobTooShortError } from './receiver.ts'
import { encodeError } from './remote-error.ts'
import { repr } from './repr.ts'

export type HoCoStage = 'recv' | 'work' | 'send' | 'closed'

export class HoCo extends Conversation implements HostedConversation {
  #stage: HoCoStage = 'recv'
  /** It left `recv` because the peer has sent its end, and no function has called `finishRecv()`. */
  #isReceiveEnded = false
  #isResponding = false
  #failure: Error | undefined
  /** The peer waits for an object outside of a response (`co_send`). Only the end of the link can tell it that none comes. */
  #owesObject = false
  #abort: AbortController | undefined
  /** Results of its functions, which are sent when it ends. */
  #results: unknown[] = []

  /** @internal */
  constructor(link: ConversationLink, coSeq: string) {
    super(link, coSeq)
    link.hosted.set(coSeq, this)
  }

  get stage(): HoCoStage {
    return this.#stage
  }

  /** Aborted when the peer cancels the conversation, when it fails, or when the link ends. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController()
    if (this.#failure && !this.#abort.signal.aborted) this.#abort.abort(this.#failure)
    return this.#abort.signal
  }

  /**
   * From `recv` to `work`: the peer's next conversations may be received now, and may be answered before this one.
   * @throws ManyhostError MANYHOST_WIRE_STAGE if it is not in `recv`, or if the function has not received everything
   */
  async finishRecv(): Promise<void> {
    if (this.#isReceiveEnded && this.#stage === 'work') {
      this.#isReceiveEnded = false
      return
    }
    await this.requestReceive('end', 0)
    this.#isReceiveEnded = false
  }

  /** From `recv` or `work` to `send`: waits for the send lock. */
  async startSend(): Promise<void> {
    if (this.#stage === 'recv') await this.finishRecv()
    if (this.#stage !== 'work')
      throw createStageError(`the hosted conversation is in the stage ${this.#stage}, not in work`)
    await this.link.sendLock.acquire()
    if (this.#isOver()) {
      this.link.sendLock.release()
      throw this.#failure ?? createStageError('the hosted conversation is closed')
    }
    this.#stage = 'send'
    this.link.sendPacket('co_ack_begin', this.coSeq)
  }

  /** Ends the conversation, and sends its response. The function that hosts it may go on. Idempotent. */
  async close(): Promise<void> {
    if (this.#stage === 'recv') await this.finishRecv()
    await this.#sendResponse()
  }

  /** @internal The peer has cancelled the conversation. */
  cancel(): void {
    if (this.#isOver()) return
    this.fail(
      new ManyhostError('MANYHOST_ABORTED', `the peer cancelled conversation ${this.coSeq}`),
    )
  }

  /** @internal The link has ended. */
  onLinkEnd(error: Error): void {
    this.#stage = 'closed'
    this.#failure = error
    this.rejectReceives(error)
    this.dropInbox()
    this.#abort?.abort(error)
  }

  /**
   * Ends the conversation with an error.
   * 1. A manyhost peer: the poster gets the error.
   * 2. An original peer, and code that failed: the link ends, because nothing else would inform the peer.
   * 3. An original peer, and code that could not be landed, such as a call of a name that is not exposed: it has done
   *    nothing. The error is reported here (unless `badCode` is 'disconnect'), and the conversation ends without an answer.
   */
  fail(error: Error): void {
    if (this.#isOver()) return
    if (!this.link.isExtended) {
      const endsLink = this.#owesObject || this.link.isGreeting(this.coSeq)
      if (endsLink || !this.link.isReportable(error)) {
        return void this.link.disconnect(describeError(error)) // 2
      }
      this.link.reportUnobserved(error) // 3
    }
    this.#failure = error
    this.#abort?.abort(error)
    this.rejectReceives(error)
    if (this.#stage !== 'recv') void this.#sendResponse()
  }

  override get wantsPacket(): boolean {
    if (this.inbox.length > 0) return false
    // Framed packets can be told from blobs, so that one may be read before a receive asks for it.
    return this.link.parser.isFramed || !this.isLanding || this.pendingReceive !== undefined
  }

  #isOver(): boolean {
    return this.#failure !== undefined || this.#stage === 'closed'
  }

  protected override assertMayReceive(): void {
    if (this.#failure) throw this.#failure
    if (this.#stage !== 'recv')
      throw createStageError(`the hosted conversation is in the stage ${this.#stage}, not in recv`)
  }

  protected override assertMaySend(): void {
    if (this.#failure) throw this.#failure
    if (this.#stage !== 'send')
      throw createStageError(`the hosted conversation is in the stage ${this.#stage}, not in send`)
    this.link.assertUp()
  }

  protected override handlePacket(packet: Packet): boolean {
    const { direction } = packet
    const receive = this.pendingReceive
    if (this.#failure) {
      this.dropPacket()
      if (direction === 'co_end' || (direction === 'co_cancel' && packet.text === this.coSeq))
        this.#endReceive(packet)
      return true
    }
    if (direction === 'co_end' && this.#mayEndReceive(receive)) {
      this.dropPacket()
      this.#endReceive(packet)
      return true
    }
    if (this.isLanding && !receive) return false
    if (direction === BLOB_DIRECTION && receive?.kind === 'data') this.deliverBytes(packet, receive)
    else {
      this.dropPacket()
      this.#handleContent(packet, receive)
    }
    return true
  }

  /** Whether `co_end` may be taken now. While a function runs without a receive, only if blobs cannot look like `co_end`. */
  #mayEndReceive(receive: PendingReceive | undefined): boolean {
    if (receive || !this.isLanding) return true
    return this.link.parser.isFramed && !this.link.settings.ordered
  }

  #handleContent(packet: Packet, receive: PendingReceive | undefined): void {
    const { direction, text } = packet
    if (receive?.kind === 'end')
      return this.#rejectReceive(
        receive,
        createStageError(`the function has not received everything: [#${direction}] is left`),
      )
    if (direction === BLOB_DIRECTION) return this.fail(createBlobTooLongError(packet))
    if (receive?.kind === 'data')
      return this.#rejectReceive(receive, createBlobTooShortError(receive))
    if (direction === '') return this.landCode(text, (value) => this.#addResult(value))
    if (direction === 'co_recv' && receive) return this.landObject(text, receive)
    if (direction === 'co_send') {
      this.#owesObject = true
      return this.landCode(text, (value) => this.#sendBack(value))
    }
    if (direction === 'co_cancel') return
    if (direction === 'co_recv') {
      return this.fail(createProtocolError('co_recv without priori receiving code under landing'))
    }
    this.link.disconnectForViolation(`HO unexpected packet: [#${direction}]${text}`)
  }

  #rejectReceive(receive: PendingReceive, error: Error): void {
    this.pendingReceives.pop()
    receive.reject(error)
    this.fail(error)
  }

  #addResult(value: unknown): void {
    if (value !== undefined && this.#stage !== 'send' && this.#stage !== 'closed')
      this.#results.push(value)
  }

  /** Sends the value of `co_send` at once, before the response begins. */
  #sendBack(value: unknown): void {
    try {
      const text = repr(value)
      this.#owesObject = false
      if (this.link.sendLock.tryAcquire()) {
        this.link.sendPacket('co_recv', text)
        this.link.sendLock.release()
        return
      }
      this.isLanding = true
      void this.link.sendLock.acquire().then(
        () => {
          this.isLanding = false
          if (!this.#isOver()) this.link.sendPacket('co_recv', text)
          this.link.sendLock.release()
          this.deliverInbox()
          this.onLanded()
          this.link.demultiplexer.pump()
        },
        () => {},
      )
    } catch (error) {
      this.fail(asError(error))
    }
  }

  /** Everything that the peer sends in this conversation was received: its next conversation may begin. */
  #endReceive(packet: Packet): void {
    if (packet.text !== this.coSeq)
      return this.link.disconnectForViolation('co seq mismatch on co_end')
    const receive = this.pendingReceive
    this.#stage = 'work'
    this.#isReceiveEnded = true
    this.link.demultiplexer.releaseReceiver(this)
    if (receive?.kind === 'end') {
      this.pendingReceives.pop()
      receive.resolve(undefined)
    } else if (receive) {
      const isData = receive.kind === 'data'
      const error = isData
        ? createBlobTooShortError(receive)
        : createStageError('the conversation has no further object')
      this.#rejectReceive(receive, error)
      return
    }
    if (!this.isLanding || this.#failure) void this.#sendResponse()
  }

  protected override onLandingFailed(error: Error): void {
    this.fail(error)
  }

  protected override onLanded(): void {
    if (this.#stage !== 'recv') void this.#sendResponse()
  }

  /** Sends the response, or the rest of it: an error, or the results of the functions. */
  async #sendResponse(): Promise<void> {
    if (this.#isResponding || this.#stage === 'closed') return
    this.#isResponding = true
    const hasLock = this.#stage === 'send'
    try {
      if (!hasLock && !this.link.sendLock.tryAcquire()) await this.link.sendLock.acquire()
    } catch {
      return // The link has ended: `onLinkEnd` closes the conversation.
    }
    if ((this.#stage as HoCoStage) === 'closed') return this.link.sendLock.release()
    this.#stage = 'closed'
    if (!hasLock) this.link.sendPacket('co_ack_begin', this.coSeq)
    if (!this.#failure && !hasLock) this.#sendResults()
    if (this.#failure && this.link.isExtended) {
      this.link.sendPacket('co_err', encodeError(this.#failure, this.link.maxPacketBytes))
    }
    this.link.sendPacket('co_ack_end', this.coSeq)
    if (this.coSeq === HELLO_NUMBER) this.link.greeter?.onHelloAnswered()
    this.link.sendLock.release()
    this.link.onHostedEnded(this, this.#failure)
  }

  #sendResults(): void {
    try {
      for (const result of this.#results) this.link.sendPacket('co_recv', repr(result))
    } catch (error) {
      this.#failure = asError(error)
      if (!this.link.isExtended) void this.link.disconnect(describeError(error))
    }
  }
}
