/** The hosted conversation: what the peer posted happens here. Stages: recv, work, send, closed. */
import { asError, describe, ManyhostError } from '../core/errors.ts'
import { Conversation } from './conversation.ts'
import { failureOf } from './failure.ts'
import { BLOB, type Packet, protocolError } from './frames.ts'
import { HELLO } from './greeting.ts'
import { type Ask, shortOf, stageError, tooLong } from './inlet.ts'
import type { Link } from './link.ts'
import { repr } from './repr.ts'

export type HoCoStage = 'recv' | 'work' | 'send' | 'closed'

export class HoCo extends Conversation {
  #stage: HoCoStage = 'recv'
  /** It left `recv` because nothing more can come, not because it was told to. */
  #isLeft = false
  #isClosing = false
  #failed: Error | undefined
  /** An object of ours is waited for outside of a response: only the end of the link could tell that none comes. */
  #owesObject = false
  #abort: AbortController | undefined
  /** What its functions answered with, to be sent when it ends. */
  #results: unknown[] = []

  /** @internal */
  constructor(link: Link, coSeq: string) {
    super(link, coSeq)
    link.hosted.set(coSeq, this)
  }

  get stage(): HoCoStage {
    return this.#stage
  }

  /** Aborted when the peer cancels the conversation, or the link ends. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController()
    if (this.#failed && !this.#abort.signal.aborted) this.#abort.abort(this.#failed)
    return this.#abort.signal
  }

  /**
   * From `recv` to `work`: others may use the wire now, and this conversation may answer after those that came later.
   * @throws ManyhostError MANYHOST_WIRE_STAGE if it is not in `recv`, or not all was received
   */
  async finishRecv(): Promise<void> {
    if (this.#isLeft && this.#stage === 'work') {
      this.#isLeft = false
      return
    }
    await this.askFor('end', 0)
    this.#isLeft = false
  }

  /** To `send`, from `recv` or `work`: waits for its turn to send. */
  async startSend(): Promise<void> {
    if (this.#stage === 'recv') await this.finishRecv()
    if (this.#stage !== 'work') throw stageError(`ho co not in work stage, but in ${this.#stage}`)
    await this.link.turn.take()
    if (this.#isOver()) {
      this.link.turn.give()
      throw this.#failed ?? stageError('ho co is closed')
    }
    this.#stage = 'send'
    this.link.send('co_ack_begin', this.coSeq)
  }

  /** Ends it, and tells the peer; the function that hosts it may go on. Idempotent. */
  async close(): Promise<void> {
    if (this.#stage === 'recv') await this.finishRecv()
    await this.#finish()
  }

  /** @internal The peer gave it up. */
  cancel(): void {
    if (this.#isOver()) return
    this.fail(
      new ManyhostError('MANYHOST_ABORTED', `the peer cancelled conversation ${this.coSeq}`),
    )
  }

  /** @internal The link has ended. */
  end(error: Error): void {
    this.#stage = 'closed'
    this.#failed = error
    this.rejectAsks(error)
    this.dropAll()
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
      if (endsLink || !this.link.mayRefuse(error)) {
        return void this.link.disconnect(describe(error))
      }
      this.link.unobserved(error)
    }
    this.#failed = error
    this.#abort?.abort(error)
    this.rejectAsks(error)
    if (this.#stage !== 'recv') void this.#finish()
  }

  override get wantsPacket(): boolean {
    if (this.inbox.length > 0) return false
    // Packets can be told from blobs, so one may be looked at before anybody asks for it.
    return this.link.frames.isFramed || !this.isLanding || this.ask !== undefined
  }

  #isOver(): boolean {
    return this.#failed !== undefined || this.#stage === 'closed'
  }

  protected override mustReceive(): void {
    if (this.#failed) throw this.#failed
    if (this.#stage !== 'recv') throw stageError('ho co not in recv stage')
  }

  protected override mustSend(): void {
    if (this.#failed) throw this.#failed
    if (this.#stage !== 'send') throw stageError('ho co not in send stage')
    this.link.mustBeUp()
  }

  protected override accept(packet: Packet): boolean {
    const { dir } = packet
    const ask = this.ask
    if (this.#failed) {
      this.drop()
      if (dir === 'co_end' || (dir === 'co_cancel' && packet.text === this.coSeq))
        this.#leave(packet)
      return true
    }
    if (dir === 'co_end' && this.#mayLeave(ask)) {
      this.drop()
      this.#leave(packet)
      return true
    }
    if (this.isLanding && !ask) return false
    if (dir === BLOB && ask?.want === 'data') this.feed(packet, ask)
    else {
      this.drop()
      this.#take(packet, ask)
    }
    return true
  }

  /** While a function runs and asks for nothing, the end of what is sent can be taken, but where blobs look like it. */
  #mayLeave(ask: Ask | undefined): boolean {
    if (ask || !this.isLanding) return true
    return this.link.frames.isFramed && !this.link.settings.ordered
  }

  #take(packet: Packet, ask: Ask | undefined): void {
    const { dir, text } = packet
    if (ask?.want === 'end')
      return this.#reject(ask, stageError(`ho co not all received: [#${dir}] is left`))
    if (dir === BLOB) return this.fail(tooLong(packet))
    if (ask?.want === 'data') return this.#reject(ask, shortOf(ask))
    if (dir === '') return this.landCode(text, (value) => this.#answer(value))
    if (dir === 'co_recv' && ask) return this.landObject(text, ask)
    if (dir === 'co_send') {
      this.#owesObject = true
      return this.landCode(text, (value) => this.#sendBack(value))
    }
    if (dir === 'co_cancel') return
    if (dir === 'co_recv') {
      return this.fail(protocolError('co_recv without priori receiving code under landing'))
    }
    this.link.violate(`HO unexpected packet: [#${dir}]${text}`)
  }

  #reject(ask: Ask, error: Error): void {
    this.asks.pop()
    ask.reject(error)
    this.fail(error)
  }

  #answer(value: unknown): void {
    if (value !== undefined && this.#stage !== 'send' && this.#stage !== 'closed')
      this.#results.push(value)
  }

  /** The value of `co_send` goes back at once, before the response begins. */
  #sendBack(value: unknown): void {
    try {
      const text = repr(value)
      this.#owesObject = false
      if (this.link.turn.tryTake()) {
        this.link.send('co_recv', text)
        this.link.turn.give()
        return
      }
      this.isLanding = true
      void this.link.turn.take().then(
        () => {
          this.isLanding = false
          if (!this.#isOver()) this.link.send('co_recv', text)
          this.link.turn.give()
          this.settle()
          this.onLanded()
          this.link.arrivals.pump()
        },
        () => {},
      )
    } catch (error) {
      this.fail(asError(error))
    }
  }

  /** All that the peer sends in this conversation was received: the wire is free for the next one. */
  #leave(packet: Packet): void {
    if (packet.text !== this.coSeq) return this.link.violate('co seq mismatch on co_end')
    const ask = this.ask
    this.#stage = 'work'
    this.#isLeft = true
    this.link.arrivals.receiverLeft(this)
    if (ask?.want === 'end') {
      this.asks.pop()
      ask.resolve(undefined)
    } else if (ask) {
      const isData = ask.want === 'data'
      const error = isData ? shortOf(ask) : stageError('the conversation has no object any more')
      this.#reject(ask, error)
      return
    }
    if (!this.isLanding || this.#failed) void this.#finish()
  }

  protected override onLandingFailed(error: Error): void {
    this.fail(error)
  }

  protected override onLanded(): void {
    if (this.#stage !== 'recv') void this.#finish()
  }

  /** Answers: with an error, what is left of the response, or what the functions answered. */
  async #finish(): Promise<void> {
    if (this.#isClosing || this.#stage === 'closed') return
    this.#isClosing = true
    const hasTurn = this.#stage === 'send'
    try {
      if (!hasTurn && !this.link.turn.tryTake()) await this.link.turn.take()
    } catch {
      return // The link has ended, which `end` tells.
    }
    if ((this.#stage as HoCoStage) === 'closed') return this.link.turn.give()
    this.#stage = 'closed'
    if (!hasTurn) this.link.send('co_ack_begin', this.coSeq)
    if (!this.#failed && !hasTurn) this.#sendResults()
    if (this.#failed && this.link.isExtended) {
      this.link.send('co_err', failureOf(this.#failed, this.link.packetLimit))
    }
    this.link.send('co_ack_end', this.coSeq)
    if (this.coSeq === HELLO) this.link.greeter?.onAnswered()
    this.link.turn.give()
    this.link.hostedEnded(this, this.#failed)
  }

  #sendResults(): void {
    try {
      for (const result of this.#results) this.link.send('co_recv', repr(result))
    } catch (error) {
      this.#failed = asError(error)
      if (!this.link.isExtended) void this.link.disconnect(describe(error))
    }
  }
}
