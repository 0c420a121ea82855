/** The hosted conversation: what the peer posted happens here. Stages: recv, work, send, closed. */
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
  /** It left `recv` because nothing more can come, not because it was told to. */
  #isReceiveEnded = false
  #isResponding = false
  #failure: Error | undefined
  /** An object of ours is waited for outside of a response: only the end of the link could tell that none comes. */
  #owesObject = false
  #abort: AbortController | undefined
  /** What its functions answered with, to be sent when it ends. */
  #results: unknown[] = []

  /** @internal */
  constructor(link: ConversationLink, coSeq: string) {
    super(link, coSeq)
    link.hosted.set(coSeq, this)
  }

  get stage(): HoCoStage {
    return this.#stage
  }

  /** Aborted when the peer cancels the conversation, or the link ends. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController()
    if (this.#failure && !this.#abort.signal.aborted) this.#abort.abort(this.#failure)
    return this.#abort.signal
  }

  /**
   * From `recv` to `work`: others may use the wire now, and this conversation may answer after those that came later.
   * @throws ManyhostError MANYHOST_WIRE_STAGE if it is not in `recv`, or not all was received
   */
  async finishRecv(): Promise<void> {
    if (this.#isReceiveEnded && this.#stage === 'work') {
      this.#isReceiveEnded = false
      return
    }
    await this.requestReceive('end', 0)
    this.#isReceiveEnded = false
  }

  /** To `send`, from `recv` or `work`: waits for its turn to send. */
  async startSend(): Promise<void> {
    if (this.#stage === 'recv') await this.finishRecv()
    if (this.#stage !== 'work')
      throw createStageError(`ho co not in work stage, but in ${this.#stage}`)
    await this.link.sendLock.acquire()
    if (this.#isOver()) {
      this.link.sendLock.release()
      throw this.#failure ?? createStageError('ho co is closed')
    }
    this.#stage = 'send'
    this.link.sendPacket('co_ack_begin', this.coSeq)
  }

  /** Ends it, and tells the peer; the function that hosts it may go on. Idempotent. */
  async close(): Promise<void> {
    if (this.#stage === 'recv') await this.finishRecv()
    await this.#sendResponse()
  }

  /** @internal The peer gave it up. */
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
   * Ends it with an error that its poster gets. An original peer can be told by the end of the link only: that is the
   * end of code that failed. Code that cannot be landed here, such as a call of a name that is not exposed, has done
   * nothing. It is reported, and its conversation ends without an answer.
   */
  fail(error: Error): void {
    if (this.#isOver()) return
    if (!this.link.isExtended) {
      const endsLink = this.#owesObject || this.link.isGreeting(this.coSeq)
      if (endsLink || !this.link.isReportable(error)) {
        return void this.link.disconnect(describeError(error))
      }
      this.link.reportUnobserved(error)
    }
    this.#failure = error
    this.#abort?.abort(error)
    this.rejectReceives(error)
    if (this.#stage !== 'recv') void this.#sendResponse()
  }

  override get wantsPacket(): boolean {
    if (this.inbox.length > 0) return false
    // Packets can be told from blobs, so one may be looked at before anybody asks for it.
    return this.link.parser.isFramed || !this.isLanding || this.pendingReceive !== undefined
  }

  #isOver(): boolean {
    return this.#failure !== undefined || this.#stage === 'closed'
  }

  protected override assertMayReceive(): void {
    if (this.#failure) throw this.#failure
    if (this.#stage !== 'recv') throw createStageError('ho co not in recv stage')
  }

  protected override assertMaySend(): void {
    if (this.#failure) throw this.#failure
    if (this.#stage !== 'send') throw createStageError('ho co not in send stage')
    this.link.assertUp()
  }

  protected override handlePacket(packet: Packet): boolean {
    const { direction: dir } = packet
    const ask = this.pendingReceive
    if (this.#failure) {
      this.dropPacket()
      if (dir === 'co_end' || (dir === 'co_cancel' && packet.text === this.coSeq))
        this.#endReceive(packet)
      return true
    }
    if (dir === 'co_end' && this.#mayEndReceive(ask)) {
      this.dropPacket()
      this.#endReceive(packet)
      return true
    }
    if (this.isLanding && !ask) return false
    if (dir === BLOB_DIRECTION && ask?.kind === 'data') this.deliverBytes(packet, ask)
    else {
      this.dropPacket()
      this.#handleContent(packet, ask)
    }
    return true
  }

  /** While a function runs and asks for nothing, the end of what is sent can be taken, but where blobs look like it. */
  #mayEndReceive(ask: PendingReceive | undefined): boolean {
    if (ask || !this.isLanding) return true
    return this.link.parser.isFramed && !this.link.settings.ordered
  }

  #handleContent(packet: Packet, ask: PendingReceive | undefined): void {
    const { direction: dir, text } = packet
    if (ask?.kind === 'end')
      return this.#rejectReceive(ask, createStageError(`ho co not all received: [#${dir}] is left`))
    if (dir === BLOB_DIRECTION) return this.fail(createBlobTooLongError(packet))
    if (ask?.kind === 'data') return this.#rejectReceive(ask, createBlobTooShortError(ask))
    if (dir === '') return this.landCode(text, (value) => this.#addResult(value))
    if (dir === 'co_recv' && ask) return this.landObject(text, ask)
    if (dir === 'co_send') {
      this.#owesObject = true
      return this.landCode(text, (value) => this.#sendBack(value))
    }
    if (dir === 'co_cancel') return
    if (dir === 'co_recv') {
      return this.fail(createProtocolError('co_recv without priori receiving code under landing'))
    }
    this.link.disconnectForViolation(`HO unexpected packet: [#${dir}]${text}`)
  }

  #rejectReceive(ask: PendingReceive, error: Error): void {
    this.pendingReceives.pop()
    ask.reject(error)
    this.fail(error)
  }

  #addResult(value: unknown): void {
    if (value !== undefined && this.#stage !== 'send' && this.#stage !== 'closed')
      this.#results.push(value)
  }

  /** The value of `co_send` goes back at once, before the response begins. */
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

  /** All that the peer sends in this conversation was received: the wire is free for the next one. */
  #endReceive(packet: Packet): void {
    if (packet.text !== this.coSeq)
      return this.link.disconnectForViolation('co seq mismatch on co_end')
    const ask = this.pendingReceive
    this.#stage = 'work'
    this.#isReceiveEnded = true
    this.link.demultiplexer.releaseReceiver(this)
    if (ask?.kind === 'end') {
      this.pendingReceives.pop()
      ask.resolve(undefined)
    } else if (ask) {
      const isData = ask.kind === 'data'
      const error = isData
        ? createBlobTooShortError(ask)
        : createStageError('the conversation has no object any more')
      this.#rejectReceive(ask, error)
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

  /** Answers: with an error, what is left of the response, or what the functions answered. */
  async #sendResponse(): Promise<void> {
    if (this.#isResponding || this.#stage === 'closed') return
    this.#isResponding = true
    const hasTurn = this.#stage === 'send'
    try {
      if (!hasTurn && !this.link.sendLock.tryAcquire()) await this.link.sendLock.acquire()
    } catch {
      return // The link has ended, which `end` tells.
    }
    if ((this.#stage as HoCoStage) === 'closed') return this.link.sendLock.release()
    this.#stage = 'closed'
    if (!hasTurn) this.link.sendPacket('co_ack_begin', this.coSeq)
    if (!this.#failure && !hasTurn) this.#sendResults()
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
