/** The posting conversation. Stages: send, recv, closed; the wire is free for others once it has left `send`. */
import { ManyhostError } from '../core/errors.ts'
import { afterUnref, type Timer } from '../core/time.ts'
import { Conversation } from './conversation.ts'
import { createStageError } from './errors.ts'
import { BLOB_DIRECTION, type Packet } from './frames.ts'
import type { ConversationLink, PendingReceive, PostedConversation } from './link-types.ts'
import { createBlobTooLongError, createBlobTooShortError } from './receiver.ts'
import { decodeError } from './remote-error.ts'

export type PoCoStage = 'send' | 'recv' | 'closed'

export interface ConversationOptions {
  /** Milliseconds in which it has to be completed; it fails with MANYHOST_TIMEOUT then. No limit unless given. */
  deadline?: number
  /** Cancels it when it is aborted. */
  signal?: AbortSignal
  /** Whatever stands for its work: `withReconnect` hands it back if the link ends before the peer acknowledged it. */
  job?: unknown
}

interface ConversationWaiter {
  resolve(): void
  reject(error: Error): void
}

export class PoCo extends Conversation implements PostedConversation, AsyncDisposable {
  /** What stands for its work. */
  readonly job: unknown
  #stage: PoCoStage = 'send'
  #isBegun = false
  #isAcknowledged = false
  /** What ended it early, here or there. */
  #failure: Error | undefined
  #isObserved = false
  #beginWaiters: ConversationWaiter[] = []
  #completionWaiters: ConversationWaiter[] = []
  #settleWaiters: (() => void)[] = []
  #timer: Timer | undefined
  #signal: AbortSignal | undefined
  readonly #onAbort = (): void => this.cancel()

  /** @internal It has its turn to send already. */
  constructor(link: ConversationLink, coSeq: string, options?: ConversationOptions) {
    super(link, coSeq)
    this.job = options?.job
    link.pending.set(coSeq, this)
    link.sendPacket('co_begin', coSeq)
    if (options) this.#watchDeadlineAndSignal(options)
  }

  get stage(): PoCoStage {
    return this.#stage
  }

  /** Whether the peer has acknowledged its end. */
  get isCompleted(): boolean {
    return this.#isAcknowledged
  }

  /** The value of code at the peer, which sends it at once: it may be waited for in `send` stage. */
  getObj(code: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.assertMaySend()
      this.link.demultiplexer.awaitObject({
        co: this,
        resolve,
        reject: (error) => this.#rejectObserved(error, reject),
      })
      this.link.sendPacket('co_send', code)
    })
  }

  /** From `send` to `recv`: frees the wire for others, and waits until the peer begins to answer. */
  async startRecv(): Promise<void> {
    this.finishSend()
    this.#stage = 'recv'
    if (this.#isBegun) return
    await new Promise<void>((resolve, reject) => this.#beginWaiters.push({ resolve, reject }))
  }

  /** Objects of the response until it ends. */
  async *[Symbol.asyncIterator](): AsyncGenerator<unknown, void, undefined> {
    for (;;) {
      const value = await this.receiveNext()
      if (value === END_OF_RESPONSE) return
      yield value
    }
  }

  /** @internal The next object, or END_OF_RESPONSE at the end of the response. */
  receiveNext(): Promise<unknown> {
    return this.requestReceive('obj', 0, undefined, { isOptional: true })
  }

  /**
   * Resolves when the peer has done all of it; what is left of the response is not waited for by anybody then.
   * @throws ManyhostError as the peer's functions failed, MANYHOST_WIRE_CLOSED, MANYHOST_TIMEOUT, MANYHOST_ABORTED
   */
  async waitCompleted(): Promise<void> {
    this.close()
    if (this.#failure) return this.#rejectObserved(this.#failure, (error) => Promise.reject(error))
    if (this.#isAcknowledged) return
    await new Promise<void>((resolve, reject) => this.#completionWaiters.push({ resolve, reject }))
  }

  /** @internal Resolves when it is over, however it ended. */
  waitSettled(): Promise<void> {
    if (this.#isAcknowledged || !this.link.isUp) return Promise.resolve()
    return new Promise((resolve) => this.#settleWaiters.push(resolve))
  }

  /** Ends it here: sends its end if need be, and leaves what is still to come to nobody. Idempotent. */
  close(): void {
    if (this.#stage === 'closed') return
    if (this.#stage === 'send') this.finishSend()
    this.#stage = 'closed'
    this.deliverInbox()
    this.link.demultiplexer.pump()
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
    if (this.#isAcknowledged || this.#failure) return
    const wasSending = this.#stage === 'send'
    this.#stage = 'closed'
    if (this.link.isExtended) this.link.sendPacket('co_cancel', this.coSeq)
    else if (wasSending && this.isSendingBlob) {
      void this.link.disconnect(`${reason.message}, in the middle of a blob`)
    } else if (wasSending) this.link.sendPacket('co_end', this.coSeq)
    if (wasSending) this.link.sendLock.release()
    this.#recordFailure(reason)
    this.dropInbox()
    this.link.demultiplexer.pump()
  }

  /** @internal From `send` on; the response may be asked for. */
  finishSend(): void {
    this.assertMaySend()
    this.#stage = 'recv'
    this.link.sendPacket('co_end', this.coSeq)
    this.link.sendLock.release()
  }

  /** @internal The peer begins to answer. */
  onResponseBegin(): void {
    this.#isBegun = true
    for (const { resolve } of this.#beginWaiters.splice(0)) resolve()
    this.deliverInbox()
  }

  /** @internal The link has ended. */
  onLinkEnd(error: Error): void {
    if (this.#isAcknowledged) return
    this.#recordFailure(error)
    this.#stopWatching()
    for (const resolve of this.#settleWaiters.splice(0)) resolve()
  }

  override get wantsPacket(): boolean {
    const { demultiplexer: arrivals, parser: frames, settings } = this.link
    if (frames.isFramed)
      return this.heldBytes < settings.window && arrivals.heldBytes < settings.wireBufHigh
    if (this.isLanding) return this.pendingReceive !== undefined
    return this.#stage === 'closed' || this.pendingReceive !== undefined
  }

  override pushPacket(packet: Packet): void {
    if (packet.direction === 'co_ack_end') this.#onAckEnd(packet)
    else if (packet.direction === 'co_err') this.#recordFailure(decodeError(packet.text))
    super.pushPacket(packet)
  }

  protected override assertMayReceive(): void {
    if (this.isLanding) return
    if (this.#stage === 'send') throw createStageError('po co still in send stage')
    if (this.#stage === 'closed') throw this.#failure ?? createStageError('po co not in recv stage')
  }

  protected override assertMaySend(): void {
    if (this.#stage !== 'send') throw this.#failure ?? createStageError('po co not in send stage')
    this.link.assertUp()
  }

  protected override handlePacket(packet: Packet): boolean {
    const { direction: dir, text } = packet
    const ask = this.pendingReceive
    if (this.isLanding && !ask) return false
    const isClosed = this.#stage === 'closed' && !this.isLanding
    switch (dir) {
      case '':
        this.dropPacket()
        if (!this.#failure) this.landCode(text, () => {})
        return true
      case 'co_recv':
        if (ask?.kind === 'data') return this.#rejectReceive(ask, createBlobTooShortError(ask))
        if (!ask && !isClosed) return false
        this.dropPacket()
        if (ask) this.landObject(text, ask)
        return true
      case BLOB_DIRECTION:
        if (ask?.kind === 'data') this.deliverBytes(packet, ask)
        else if (ask) return this.#rejectReceive(ask, createBlobTooLongError(packet))
        else if (isClosed) this.dropPacket()
        else return false
        return true
      case 'co_err':
      case 'co_ack_end':
        return this.#onResponseOver(ask)
      default:
        this.dropPacket()
        if (dir !== 'co_cancel')
          this.link.disconnectForViolation(`RECV unexpected packet: [#${dir}]${text}`)
        return true
    }
  }

  /** The response has nothing more: its error and its end stay in the inbox, for all who ask later. */
  #onResponseOver(ask: PendingReceive | undefined): boolean {
    if (!ask) return false
    this.pendingReceives.pop()
    if (this.#failure) this.#rejectObserved(this.#failure, ask.reject)
    else if (ask.kind === 'data') ask.reject(createBlobTooShortError(ask))
    else if (ask.isOptional) ask.resolve(END_OF_RESPONSE)
    else ask.reject(createStageError('the response has no object any more'))
    return true
  }

  #rejectReceive(ask: PendingReceive, error: Error): boolean {
    this.pendingReceives.pop()
    ask.reject(error)
    return true
  }

  #onAckEnd(packet: Packet): void {
    if (packet.text !== this.coSeq)
      return this.link.disconnectForViolation('co seq mismatch on co_ack_end')
    this.#isAcknowledged = true
    this.#stopWatching()
    this.link.onPostedEnded(this)
    for (const resolve of this.#settleWaiters.splice(0)) resolve()
    for (const waiter of this.#completionWaiters.splice(0)) {
      if (this.#failure) this.#rejectObserved(this.#failure, waiter.reject)
      else waiter.resolve()
    }
    if (this.#failure && !this.#isObserved && this.#stage === 'closed')
      this.link.reportUnobserved(this.#failure)
  }

  #recordFailure(error: Error): void {
    if (this.#failure) return
    this.#failure = error
    for (const waiter of this.#beginWaiters.splice(0)) this.#rejectObserved(error, waiter.reject)
    for (const waiter of this.#completionWaiters.splice(0))
      this.#rejectObserved(error, waiter.reject)
    this.link.demultiplexer.rejectAwaitedObjects(this, error)
    if (this.#stage !== 'closed' && this.link.isUp) return // What came before the error can still be received.
    if (this.pendingReceives.length > 0) this.#isObserved = true
    this.rejectReceives(error)
  }

  #rejectObserved<T>(error: Error, reject: (error: Error) => T): T {
    this.#isObserved = true
    return reject(error)
  }

  protected override onLandingFailed(error: Error): void {
    // The peer is not at fault to the end of the link: what it said could not be landed here.
    if (!this.#failure) this.#recordFailure(error)
    this.link.reportUnobserved(error)
  }

  #watchDeadlineAndSignal({ deadline, signal }: ConversationOptions): void {
    if (deadline !== undefined) {
      this.#timer = afterUnref(deadline, () => {
        const error = `conversation ${this.coSeq} was not completed within ${deadline} ms`
        this.cancel(new ManyhostError('MANYHOST_TIMEOUT', error))
      })
    }
    this.#signal = signal
    signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  #stopWatching(): void {
    this.#timer?.clear()
    this.#signal?.removeEventListener('abort', this.#onAbort)
  }
}

/** Said instead of an object when the response has ended. */
export const END_OF_RESPONSE = Symbol('nothing')
