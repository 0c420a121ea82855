/**
 * One connection, from its begin to its end: it posts and hosts conversations, and is ended or released. design.md describes
 * the stages, and what ends what.
 */
import type { Duplex } from 'node:stream'
import { deferred } from '../core/deferred.ts'
import { asError, describeError, ManyhostError } from '../core/errors.ts'
import { afterUnref } from '../core/time.ts'
import { catchRejection } from '../core/user-functions.ts'
import { ConversationNumbers } from './conversation-numbers.ts'
import { Demultiplexer } from './demultiplexer.ts'
import { HostingEnd, PostingEnd } from './ends.ts'
import { createProtocolError, createStageError } from './errors.ts'
import { PacketParser } from './frames.ts'
import { HELLO_NUMBER, READY_NUMBER } from './greeting.ts'
import { WireKeepalive } from './keepalive.ts'
import { land } from './land.ts'
import type {
  ConversationLink,
  GreetingHandler,
  HostedConversation,
  LinkCounts,
  PostedConversation,
  ReceivingConversation,
  WirePeer,
} from './link-types.ts'
import { LandingEnvironment } from './names.ts'
import type { NamesFor } from './names-for.ts'
import type { WireSettings } from './options.ts'
import { type ConversationOptions, PoCo } from './poco.ts'
import { ReleaseAgreement } from './release.ts'
import { SendLock } from './send-lock.ts'
import { PacketSender } from './sender.ts'

export class WireLink implements ConversationLink {
  readonly po: PostingEnd
  readonly ho: HostingEnd
  readonly socket: Duplex
  readonly settings: WireSettings
  readonly environment: LandingEnvironment
  readonly parser: PacketParser
  readonly demultiplexer = new Demultiplexer(this)
  readonly releaseAgreement = new ReleaseAgreement()
  readonly sender: PacketSender
  readonly sendLock = new SendLock()
  readonly keepalive: WireKeepalive
  readonly conversationNumbers = new ConversationNumbers()
  readonly peer: WirePeer = { isExtended: false, isAuthenticated: false, ident: undefined, beat: 0 }
  /** Posted conversations without acknowledgement, by number. */
  readonly pending = new Map<string, PostedConversation>()
  /** Hosted conversations without an answer, by number. */
  readonly hosted = new Map<string, HostedConversation>()
  /** Counts for `po.stats()`. */
  readonly counts: LinkCounts = { posted: 0, hosted: 0, failed: 0, unobserved: 0, received: 0 }
  greeter: GreetingHandler | undefined
  /** Jobs of the conversations that were not acknowledged when the link ended, oldest first. */
  unacknowledged: unknown[] = []
  /** Maximum bytes of a packet that the peer accepts. */
  maxPacketBytes: number
  /** The conversation whose function is being called. */
  currentConversation: ReceivingConversation | undefined
  readonly #closed = deferred<string | undefined>()
  /** Callers that wait until `pending` is below its maximum. */
  #capacityWaiters: (() => void)[] = []
  /** Callers that wait until some conversation ends. */
  #conversationEndWaiters: (() => void)[] = []
  #endError: ManyhostError | undefined
  #reason: string | undefined

  constructor(socket: Duplex, settings: WireSettings, names: NamesFor) {
    this.socket = socket
    this.settings = settings
    this.maxPacketBytes = settings.packetSize
    this.parser = new PacketParser(settings.packetSize)
    this.sender = new PacketSender(socket, settings.wireBufHigh, () => this.demultiplexer.pump())
    this.keepalive = new WireKeepalive(this)
    this.po = new PostingEnd(this)
    this.ho = new HostingEnd(this)
    this.environment = new LandingEnvironment(
      typeof names === 'function' ? names(this.po, this.ho) : names,
    )
    socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
    socket.on('error', this.#onError)
    socket.on('close', this.#onClose)
  }

  get isUp(): boolean {
    return this.#endError === undefined
  }

  get isExtended(): boolean {
    return this.peer.isExtended
  }

  get reason(): string | undefined {
    return this.#reason
  }

  /** Resolves with the reason, if there is one, when the connection is closed. */
  get closed(): Promise<string | undefined> {
    return this.#closed.promise
  }

  /** @throws ManyhostError MANYHOST_WIRE_CLOSED */
  assertUp(): void {
    if (this.#endError) throw this.#endError
  }

  /** Sends one packet. @throws ManyhostError MANYHOST_WIRE_LIMIT if it is longer than the peer accepts */
  sendPacket(direction: string, text: string): void {
    if (
      text.length > this.maxPacketBytes ||
      (text.length * 3 > this.maxPacketBytes && Buffer.byteLength(text) > this.maxPacketBytes)
    ) {
      const message = `code of ${Buffer.byteLength(text)} bytes is too long: the peer accepts ${this.maxPacketBytes}. Send it as a blob`
      throw new ManyhostError('MANYHOST_WIRE_LIMIT', message)
    }
    this.sender.sendPacket(direction, text)
  }

  /** Begins a posted conversation when the send lock is free. */
  async postConversation(options?: ConversationOptions): Promise<PoCo> {
    options?.signal?.throwIfAborted()
    if (this.greeter && !this.peer.isExtended) await this.greeter.mayPost
    for (;;) {
      this.assertUp()
      if (!this.sendLock.tryAcquire()) await this.sendLock.acquire(options?.signal)
      if (this.pending.size < this.settings.maxPending) break
      // Checked with the lock held: callers that came before us may have used up the capacity meanwhile.
      this.sendLock.release()
      await new Promise<void>((resolve) => this.#capacityWaiters.push(resolve))
    }
    return this.openConversation(this.conversationNumbers.takeNext(this.pending), options)
  }

  /** Begins a posted conversation at once. The caller holds the send lock. */
  openConversation(coSeq: string, options?: ConversationOptions): PoCo {
    try {
      this.assertUp()
      this.counts.posted++
      return new PoCo(this, coSeq, options)
    } catch (error) {
      this.sendLock.release()
      throw error
    }
  }

  /** Lands code with our names. The called functions find `conversation` as `ho.co`. */
  landText(text: string, conversation: ReceivingConversation): unknown {
    if (this.isGreeting(conversation.coSeq)) return this.greeter?.onGreeting(text)
    const landCallback = this.environment.findCallback('__hbi_land__')
    const invoke = (call: () => unknown): unknown => {
      const outer = this.currentConversation
      this.currentConversation = conversation
      try {
        return call()
      } finally {
        this.currentConversation = outer
      }
    }
    if (landCallback) {
      const landed = invoke(() => landCallback(text))
      if (landed !== undefined) return landed
    }
    return land(text, this.environment, invoke)
  }

  /** Whether code of this conversation is the greeting. */
  isGreeting(coSeq: string): boolean {
    return (
      (coSeq === HELLO_NUMBER || coSeq === READY_NUMBER) &&
      this.greeter !== undefined &&
      !this.peer.isExtended
    )
  }

  onPostedEnded(co: PostedConversation): void {
    this.demultiplexer.releaseReceiver(co)
    this.pending.delete(co.coSeq)
    this.demultiplexer.rejectAwaitedObjects(co)
    this.#capacityWaiters.shift()?.()
    for (const resume of this.#conversationEndWaiters.splice(0)) resume()
  }

  onHostedEnded(co: HostedConversation, error?: Error): void {
    this.hosted.delete(co.coSeq)
    if (error) this.counts.failed++
    for (const resume of this.#conversationEndWaiters.splice(0)) resume()
    this.demultiplexer.pump()
  }

  /** Whether an error of an original peer's code ends only its conversation, and not the link: see `badCode`. */
  isReportable(error: Error): boolean {
    const isCode = error instanceof ManyhostError && error.code === 'MANYHOST_WIRE_CODE'
    return isCode && this.settings.badCode === 'report'
  }

  /** Reports an error that no caller waits for. */
  reportUnobserved(error: Error): void {
    this.counts.unobserved++
    this.settings.onError?.(error)
  }

  /** Calls `__hbi_init__`. The link ends if it throws. @throws what it throws */
  async callInit(): Promise<void> {
    try {
      await this.environment.findCallback('__hbi_init__')?.(this.po, this.ho)
    } catch (error) {
      void this.disconnect(`init failed: ${describeError(error)}`)
      throw error
    }
  }

  /** Ends the link because the peer broke the protocol, and sends it the reason. */
  disconnectForViolation(message: string): void {
    void this.disconnect(message, true, createProtocolError(message))
  }

  /** Ends the link, with an `err` packet if there is a reason. Resolves when the connection is closed. */
  async disconnect(reason?: string, tellPeer = true, error?: ManyhostError): Promise<void> {
    if (!this.#endError) {
      this.#invokeCallback('hbi_disconnecting', reason)
      if (reason !== undefined && tellPeer) this.sender.sendPacket('err', reason.slice(0, 4_096))
      this.sender.flush()
      this.#end(reason, error)
      this.socket.end()
      const timer = afterUnref(this.settings.closeTimeout, () => this.socket.destroy())
      void this.closed.then(() => timer.clear())
      // Bytes that still arrive are read and dropped: unread, they would make the kernel reset the connection, and the peer
      // would not get the reason.
      this.socket.resume()
    }
    await this.closed
  }

  /**
   * Releases the connection for another protocol, when both ends have requested it and all conversations are done.
   * @throws ManyhostError MANYHOST_WIRE_STAGE, MANYHOST_WIRE_CLOSED
   */
  async release(): Promise<Duplex> {
    this.assertUp()
    if (!this.isExtended) throw createStageError('only a manyhost peer can release a connection')
    this.releaseAgreement.request()
    await this.#waitForConversations()
    await this.sendLock.acquire()
    this.sender.sendPacket('release', '')
    this.sender.flush()
    this.keepalive.stop()
    await this.releaseAgreement.agreed
    this.socket.off('data', this.#onData).off('end', this.#onEnd)
    this.socket.off('error', this.#onError).off('close', this.#onClose)
    const error = new ManyhostError('MANYHOST_WIRE_CLOSED', 'the connection was released')
    this.#endError = error
    this.#settleAll(error)
    this.#closed.resolve('released')
    this.socket.pause()
    const rest = this.parser.takeAll()
    if (rest.length > 0) this.socket.unshift(rest)
    return this.socket
  }

  /** Resolves when no conversation is open. */
  async #waitForConversations(): Promise<void> {
    while (this.hosted.size + this.pending.size > 0 && this.isUp) {
      await new Promise<void>((resolve) => this.#conversationEndWaiters.push(resolve))
    }
    this.assertUp()
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#endError) return
    this.counts.received += chunk.length
    this.demultiplexer.push(chunk)
  }

  readonly #onEnd = (): void => {
    this.#invokeCallback('hbi_peer_done')
    this.demultiplexer.onPeerEnd()
  }

  readonly #onError = (error: Error): void => {
    this.#end(`wire error: ${describeError(error)}`, undefined, error)
  }

  readonly #onClose = (): void => {
    this.#end('the connection was closed')
    this.keepalive.stop()
    this.#invokeCallback('hbi_disconnected', this.#reason)
    this.#closed.resolve(this.#reason)
  }

  #end(reason: string | undefined, known?: ManyhostError, cause?: Error): void {
    if (this.#endError) return
    this.#reason = reason
    const message = reason === undefined ? 'the link was closed' : `the link ended: ${reason}`
    const error = known ?? new ManyhostError('MANYHOST_WIRE_CLOSED', message, cause && { cause })
    this.#endError = error
    this.#settleAll(error)
    if (cause || this.socket.destroyed) this.socket.destroy()
    this.#invokeCallback('__hbi_cleanup__', this.po, this.ho, reason)
  }

  #settleAll(error: ManyhostError): void {
    this.keepalive.stop()
    this.sendLock.stop(error)
    this.sender.stop()
    this.unacknowledged = [...this.pending.values()]
      .map(({ job }) => job)
      .filter((job) => job !== undefined)
    for (const co of [...this.pending.values()]) co.onLinkEnd(error)
    for (const co of [...this.hosted.values()]) co.onLinkEnd(error)
    for (const resume of this.#capacityWaiters.splice(0)) resume()
    for (const resume of this.#conversationEndWaiters.splice(0)) resume()
    this.demultiplexer.stop(error)
    this.releaseAgreement.fail(error)
  }

  /** Calls one of the user's callbacks. Its errors are reported, and change nothing. */
  #invokeCallback(name: string, ...args: unknown[]): void {
    const callback = this.environment.findCallback(name)
    if (!callback) return
    const failed = (error: unknown): void => this.reportUnobserved(asError(error))
    try {
      catchRejection(callback(...args), failed)
    } catch (error) {
      failed(error)
    }
  }
}
