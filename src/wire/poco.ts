/** The posted conversation. Its stages: send, recv, closed. In `send` it has the send lock. */
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
  /** Milliseconds in which it must be completed; after that it fails with MANYHOST_TIMEOUT. @default no limit */
  deadline?: number
  /** Cancels the conversation when it is aborted. */
  signal?: AbortSignal
  /** Any value that stands for its work: `withReconnect` returns it if the link ends before the peer has acknowledged it. */
  job?: unknown
}

interface ConversationWaiter {
  resolve(): void
  reject(error: Error): void
}

export class PoCo extends Conversation implements PostedConversation, AsyncDisposable {
  /** The value that stands for its work. */
  readonly job: unknown
  #stage: PoCoStage = 'send'
  #isBegun = false
  #isAcknowledged = false
  /** The error that ended it early, here or at the peer. */
  #failure: Error | undefined
  #isObserved = false
  #beginWaiters: ConversationWaiter[] = []
  #completionWaiters: ConversationWaiter[] = []
  #settleWaiters: (() => void)[] = []
  #timer: Timer | undefined
  #signal: AbortSignal | undefined
  readonly #onAbort = (): void => this.cancel()

  /** @internal The caller has acquired the send lock. */
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

  /** Whether the peer has acknowledged the end of the conversation. */
  get isCompleted(): boolean {
    return this.#isAcknowledged
  }

  /** The value of code at the peer. The peer sends it at once, so that it can be awaited in the stage `send`. */
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

  /** From `send` to `recv`: releases the send lock, and waits until the peer begins to answer. */
  async startRecv(): Promise<void> {
    this.finishSend()
    this.#stage = 'recv'
    if (this.#isBegun) return
    await new Promise<void>((resolve, reject) => this.#beginWaiters.push({ resolve, reject }))
  }

  /** The objects of the response. */
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
   * Resolves when the peer has done all of it. The rest of the response is dropped.
   * @throws ManyhostError the error of the peer's functions, MANYHOST_WIRE_CLOSED, MANYHOST_TIMEOUT, MANYHOST_ABORTED
   */
  async waitCompleted(): Promise<void> {
    this.close()
    if (this.#failure) return this.#rejectObserved(this.#failure, (error) => Promise.reject(error))
    if (this.#isAcknowledged) return
    await new Promise<void>((resolve, reject) => this.#completionWaiters.push({ resolve, reject }))
  }

  /** @internal Resolves when the conversation has ended, in success or failure. */
  waitSettled(): Promise<void> {
    if (this.#isAcknowledged || !this.link.isUp) return Promise.resolve()
    return new Promise((resolve) => this.#settleWaiters.push(resolve))
  }

  /** Ends the conversation at this end: sends its end if necessary, and drops the rest of the response. Idempotent. */
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
   * Cancels the conversation: pending calls reject with `reason`, and a manyhost peer is informed. An original peer cannot
   * be informed; in the middle of a blob, the link to it must end.
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

  /** @internal From `send` to `recv`, without waiting. */
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
    const { demultiplexer, parser, settings } = this.link
    if (parser.isFramed)
      return this.heldBytes < settings.window && demultiplexer.heldBytes < settings.wireBufHigh
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
    if (this.#stage === 'send')
      throw createStageError(
        'the posted conversation is still in the stage send: call startRecv() first',
      )
    if (this.#stage === 'closed')
      throw this.#failure ?? createStageError('the posted conversation is closed')
  }

  protected override assertMaySend(): void {
    if (this.#stage !== 'send')
      throw (
        this.#failure ??
        createStageError(`the posted conversation is in the stage ${this.#stage}, not in send`)
      )
    this.link.assertUp()
  }

  protected override handlePacket(packet: Packet): boolean {
    const { direction, text } = packet
    const receive = this.pendingReceive
    if (this.isLanding && !receive) return false
    const isClosed = this.#stage === 'closed' && !this.isLanding
    switch (direction) {
      case '':
        this.dropPacket()
        if (!this.#failure) this.landCode(text, () => {})
        return true
      case 'co_recv':
        if (receive?.kind === 'data')
          return this.#rejectReceive(receive, createBlobTooShortError(receive))
        if (!receive && !isClosed) return false
        this.dropPacket()
        if (receive) this.landObject(text, receive)
        return true
      case BLOB_DIRECTION:
        if (receive?.kind === 'data') this.deliverBytes(packet, receive)
        else if (receive) return this.#rejectReceive(receive, createBlobTooLongError(packet))
        else if (isClosed) this.dropPacket()
        else return false
        return true
      case 'co_err':
      case 'co_ack_end':
        return this.#onResponseOver(receive)
      default:
        this.dropPacket()
        if (direction !== 'co_cancel')
          this.link.disconnectForViolation(`RECV unexpected packet: [#${direction}]${text}`)
        return true
    }
  }

  /** The response has ended. The packet of its error or its end stays in the inbox, for all later receives. */
  #onResponseOver(receive: PendingReceive | undefined): boolean {
    if (!receive) return false
    this.pendingReceives.pop()
    if (this.#failure) this.#rejectObserved(this.#failure, receive.reject)
    else if (receive.kind === 'data') receive.reject(createBlobTooShortError(receive))
    else if (receive.isOptional) receive.resolve(END_OF_RESPONSE)
    else receive.reject(createStageError('the response has no further object'))
    return true
  }

  #rejectReceive(receive: PendingReceive, error: Error): boolean {
    this.pendingReceives.pop()
    receive.reject(error)
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
    if (this.#stage !== 'closed' && this.link.isUp) return // Packets that arrived before the error can still be received.
    if (this.pendingReceives.length > 0) this.#isObserved = true
    this.rejectReceives(error)
  }

  #rejectObserved<T>(error: Error, reject: (error: Error) => T): T {
    this.#isObserved = true
    return reject(error)
  }

  protected override onLandingFailed(error: Error): void {
    // The link does not end: the peer's code could not be landed here, but the peer kept to the protocol.
    if (!this.#failure) this.#recordFailure(error)
    this.link.reportUnobserved(error)
  }

  #watchDeadlineAndSignal({ deadline, signal }: ConversationOptions): void {
    if (deadline !== undefined) {
      this.#timer = afterUnref(deadline, () => {
        const message = `conversation ${this.coSeq} was not completed within ${deadline} ms`
        this.cancel(new ManyhostError('MANYHOST_TIMEOUT', message))
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

/** `receiveNext` returns it instead of an object when the response has ended. */
export const END_OF_RESPONSE = Symbol('end of response')
