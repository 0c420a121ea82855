/** The posting conversation. Stages: send, recv, closed; the wire is free for others once it has left `send`. */
import { ManyhostError } from '../core/errors.ts'
import { afterIdly, type Timer } from '../core/time.ts'
import { Conversation } from './conversation.ts'
import { errorFrom } from './failure.ts'
import { BLOB, type Packet } from './frames.ts'
import { type Ask, shortOf, stageError, tooLong } from './inlet.ts'
import type { Link } from './link.ts'

export type PoCoStage = 'send' | 'recv' | 'closed'

export interface ConversationOptions {
  /** Milliseconds in which it has to be completed; it fails with MANYHOST_TIMEOUT then. No limit unless given. */
  deadline?: number
  /** Cancels it when it is aborted. */
  signal?: AbortSignal
  /** Whatever stands for its work: `withReconnect` hands it back if the link ends before the peer acknowledged it. */
  job?: unknown
}

interface Waiter {
  resolve(): void
  reject(error: Error): void
}

export class PoCo extends Conversation implements AsyncDisposable {
  /** What stands for its work. */
  readonly job: unknown
  #stage: PoCoStage = 'send'
  #isBegun = false
  #isEnded = false
  /** What ended it early, here or there. */
  #failed: Error | undefined
  #isObserved = false
  #begun: Waiter[] = []
  #completed: Waiter[] = []
  #settled: (() => void)[] = []
  #timer: Timer | undefined
  #signal: AbortSignal | undefined
  readonly #onAbort = (): void => this.cancel()

  /** @internal It has its turn to send already. */
  constructor(link: Link, coSeq: string, options?: ConversationOptions) {
    super(link, coSeq)
    this.job = options?.job
    link.pending.set(coSeq, this)
    link.send('co_begin', coSeq)
    if (options) this.#watch(options)
  }

  get stage(): PoCoStage {
    return this.#stage
  }

  /** Whether the peer has acknowledged its end. */
  get isCompleted(): boolean {
    return this.#isEnded
  }

  /** The value of code at the peer, which sends it at once: it may be waited for in `send` stage. */
  getObj(code: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.mustSend()
      this.link.arrivals.awaitObject({
        co: this,
        resolve,
        reject: (error) => this.#tell(error, reject),
      })
      this.link.send('co_send', code)
    })
  }

  /** From `send` to `recv`: frees the wire for others, and waits until the peer begins to answer. */
  async startRecv(): Promise<void> {
    this.finishSend()
    this.#stage = 'recv'
    if (this.#isBegun) return
    await new Promise<void>((resolve, reject) => this.#begun.push({ resolve, reject }))
  }

  /** Objects of the response until it ends. */
  async *[Symbol.asyncIterator](): AsyncGenerator<unknown, void, undefined> {
    for (;;) {
      const value = await this.recvNext()
      if (value === NOTHING) return
      yield value
    }
  }

  /** @internal The next object, or NOTHING at the end of the response. */
  recvNext(): Promise<unknown> {
    return this.askFor('obj', 0, undefined, { isOptional: true })
  }

  /**
   * Resolves when the peer has done all of it; what is left of the response is not waited for by anybody then.
   * @throws ManyhostError as the peer's functions failed, MANYHOST_WIRE_CLOSED, MANYHOST_TIMEOUT, MANYHOST_ABORTED
   */
  async waitCompleted(): Promise<void> {
    this.close()
    if (this.#failed) return this.#tell(this.#failed, (error) => Promise.reject(error))
    if (this.#isEnded) return
    await new Promise<void>((resolve, reject) => this.#completed.push({ resolve, reject }))
  }

  /** @internal Resolves when it is over, however it ended. */
  settled(): Promise<void> {
    if (this.#isEnded || !this.link.isUp) return Promise.resolve()
    return new Promise((resolve) => this.#settled.push(resolve))
  }

  /** Ends it here: sends its end if need be, and leaves what is still to come to nobody. Idempotent. */
  close(): void {
    if (this.#stage === 'closed') return
    if (this.#stage === 'send') this.finishSend()
    this.#stage = 'closed'
    this.settle()
    this.link.arrivals.pump()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close()
  }

  /**
   * Gives it up: whoever waits for it gets `reason`, and a manyhost peer is told. An original peer cannot be; in the
   * middle of a blob the link to it has to end.
   */
  cancel(
    reason: Error = new ManyhostError(
      'MANYHOST_ABORTED',
      `conversation ${this.coSeq} was cancelled`,
    ),
  ): void {
    if (this.#isEnded || this.#failed) return
    const wasSending = this.#stage === 'send'
    this.#stage = 'closed'
    if (this.link.isExtended) this.link.send('co_cancel', this.coSeq)
    else if (wasSending && this.isAmidBlob) {
      void this.link.disconnect(`${reason.message}, in the middle of a blob`)
    } else if (wasSending) this.link.send('co_end', this.coSeq)
    if (wasSending) this.link.turn.give()
    this.#fail(reason)
    this.dropAll()
    this.link.arrivals.pump()
  }

  /** @internal From `send` on; the response may be asked for. */
  finishSend(): void {
    this.mustSend()
    this.#stage = 'recv'
    this.link.send('co_end', this.coSeq)
    this.link.turn.give()
  }

  /** @internal The peer begins to answer. */
  begin(): void {
    this.#isBegun = true
    for (const { resolve } of this.#begun.splice(0)) resolve()
    this.settle()
  }

  /** @internal The link has ended. */
  end(error: Error): void {
    if (this.#isEnded) return
    this.#fail(error)
    this.#unwatch()
    for (const resolve of this.#settled.splice(0)) resolve()
  }

  override get wantsPacket(): boolean {
    const { arrivals, frames, settings } = this.link
    if (frames.isFramed) return this.held < settings.window && arrivals.held < settings.wireBufHigh
    if (this.isLanding) return this.ask !== undefined
    return this.#stage === 'closed' || this.ask !== undefined
  }

  override push(packet: Packet): void {
    if (packet.dir === 'co_ack_end') this.#complete(packet)
    else if (packet.dir === 'co_err') this.#fail(errorFrom(packet.text))
    super.push(packet)
  }

  protected override mustReceive(): void {
    if (this.isLanding) return
    if (this.#stage === 'send') throw stageError('po co still in send stage')
    if (this.#stage === 'closed') throw this.#failed ?? stageError('po co not in recv stage')
  }

  protected override mustSend(): void {
    if (this.#stage !== 'send') throw this.#failed ?? stageError('po co not in send stage')
    this.link.mustBeUp()
  }

  protected override accept(packet: Packet): boolean {
    const { dir, text } = packet
    const ask = this.ask
    if (this.isLanding && !ask) return false
    const isClosed = this.#stage === 'closed' && !this.isLanding
    switch (dir) {
      case '':
        this.drop()
        if (!this.#failed) this.landCode(text, () => {})
        return true
      case 'co_recv':
        if (ask?.want === 'data') return this.#refuse(ask, shortOf(ask))
        if (!ask && !isClosed) return false
        this.drop()
        if (ask) this.landObject(text, ask)
        return true
      case BLOB:
        if (ask?.want === 'data') this.feed(packet, ask)
        else if (ask) return this.#refuse(ask, tooLong(packet))
        else if (isClosed) this.drop()
        else return false
        return true
      case 'co_err':
      case 'co_ack_end':
        return this.#over(ask)
      default:
        this.drop()
        if (dir !== 'co_cancel') this.link.violate(`RECV unexpected packet: [#${dir}]${text}`)
        return true
    }
  }

  /** The response has nothing more: its error and its end stay in the inbox, for all who ask later. */
  #over(ask: Ask | undefined): boolean {
    if (!ask) return false
    this.asks.pop()
    if (this.#failed) this.#tell(this.#failed, ask.reject)
    else if (ask.want === 'data') ask.reject(shortOf(ask))
    else if (ask.isOptional) ask.resolve(NOTHING)
    else ask.reject(stageError('the response has no object any more'))
    return true
  }

  #refuse(ask: Ask, error: Error): boolean {
    this.asks.pop()
    ask.reject(error)
    return true
  }

  #complete(packet: Packet): void {
    if (packet.text !== this.coSeq) return this.link.violate('co seq mismatch on co_ack_end')
    this.#isEnded = true
    this.#unwatch()
    this.link.pendingEnded(this)
    for (const resolve of this.#settled.splice(0)) resolve()
    for (const waiter of this.#completed.splice(0)) {
      if (this.#failed) this.#tell(this.#failed, waiter.reject)
      else waiter.resolve()
    }
    if (this.#failed && !this.#isObserved && this.#stage === 'closed')
      this.link.unobserved(this.#failed)
  }

  #fail(error: Error): void {
    if (this.#failed) return
    this.#failed = error
    for (const waiter of this.#begun.splice(0)) this.#tell(error, waiter.reject)
    for (const waiter of this.#completed.splice(0)) this.#tell(error, waiter.reject)
    this.link.arrivals.failObjects(this, error)
    if (this.#stage !== 'closed' && this.link.isUp) return // What came before the error can still be received.
    if (this.asks.length > 0) this.#isObserved = true
    this.rejectAsks(error)
  }

  #tell<T>(error: Error, reject: (error: Error) => T): T {
    this.#isObserved = true
    return reject(error)
  }

  protected override onLandingFailed(error: Error): void {
    // The peer is not at fault to the end of the link: what it said could not be landed here.
    if (!this.#failed) this.#fail(error)
    this.link.unobserved(error)
  }

  #watch({ deadline, signal }: ConversationOptions): void {
    if (deadline !== undefined) {
      this.#timer = afterIdly(deadline, () => {
        const error = `conversation ${this.coSeq} was not completed within ${deadline} ms`
        this.cancel(new ManyhostError('MANYHOST_TIMEOUT', error))
      })
    }
    this.#signal = signal
    signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  #unwatch(): void {
    this.#timer?.clear()
    this.#signal?.removeEventListener('abort', this.#onAbort)
  }
}

/** Said instead of an object when the response has ended. */
export const NOTHING = Symbol('nothing')
