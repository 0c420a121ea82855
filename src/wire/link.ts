/**
 * One connection, from its begin to its end: what is posted over it, what lands here, and how it is ended or handed over.
 * design.md has the stages, and who may end what.
 */
import type { Duplex } from 'node:stream'
import { asError, describe, ManyhostError } from '../core/errors.ts'
import { watch } from '../core/guarded.ts'
import { afterIdly } from '../core/time.ts'
import { Arrivals } from './arrivals.ts'
import type { Conversation } from './conversation.ts'
import { deferred } from './deferred.ts'
import { HostingEnd, PostingEnd } from './ends.ts'
import { Frames } from './frames.ts'
import { HELLO, READY } from './greeting.ts'
import { Handover } from './handover.ts'
import type { HoCo } from './hoco.ts'
import { type Inlet, stageError } from './inlet.ts'
import { land } from './land.ts'
import { Environment, type NamesFor } from './names.ts'
import { Numbers } from './numbers.ts'
import type { Settings } from './options.ts'
import { Outlet } from './outlet.ts'
import { type ConversationOptions, PoCo } from './poco.ts'
import { Turn } from './turn.ts'
import { Vigil } from './vigil.ts'

/** What is known of the peer. */
export interface Peer {
  /** It is manyhost too: errors, beats, cancelling and framed blobs are agreed on. */
  isExtended: boolean
  /** It has proved that it has the key. */
  isAuthenticated: boolean
  /** Who it says it is. */
  ident: string | undefined
  /** Milliseconds between its beats; 0: it does not. */
  beat: number
}

/** Who answers code of the greeting. */
export interface Greeter {
  /** Whether conversations other than the greeting are refused for now. */
  readonly isStrict: boolean
  /** Resolves when our own conversations may begin. */
  readonly gate: Promise<void>
  onGreeting(text: string): unknown
  /** What was answered to the hello has been written. */
  onAnswered(): void
}

export class Link {
  readonly po: PostingEnd
  readonly ho: HostingEnd
  readonly socket: Duplex
  readonly settings: Settings
  readonly environment: Environment
  readonly frames: Frames
  readonly arrivals = new Arrivals(this)
  readonly handover = new Handover()
  readonly outlet: Outlet
  readonly turn = new Turn()
  readonly vigil: Vigil
  readonly numbers = new Numbers()
  readonly peer: Peer = { isExtended: false, isAuthenticated: false, ident: undefined, beat: 0 }
  /** Posted conversations that are not acknowledged, by number. */
  readonly pending = new Map<string, PoCo>()
  /** Hosted conversations that are not answered, by number. */
  readonly hosted = new Map<string, HoCo>()
  /** Counts for `po.stats()`. */
  readonly counts = { posted: 0, hosted: 0, failed: 0, unobserved: 0, received: 0 }
  greeter: Greeter | undefined
  /** Jobs of the conversations that were not acknowledged when the link ended, oldest first. */
  unacknowledged: unknown[] = []
  /** Most bytes of a packet that the peer takes. */
  packetLimit: number
  /** The conversation whose function is being called. */
  current: Conversation | undefined
  readonly #closed = deferred<string | undefined>()
  #room: (() => void)[] = []
  /** Who waits for the end of a conversation, whichever. */
  #ends: (() => void)[] = []
  #ended: ManyhostError | undefined
  #reason: string | undefined

  constructor(socket: Duplex, settings: Settings, names: NamesFor) {
    this.socket = socket
    this.settings = settings
    this.packetLimit = settings.packetSize
    this.frames = new Frames(settings.packetSize)
    this.outlet = new Outlet(socket, settings.wireBufHigh, () => this.arrivals.pump())
    this.vigil = new Vigil(this)
    this.po = new PostingEnd(this)
    this.ho = new HostingEnd(this)
    this.environment = new Environment(
      typeof names === 'function' ? names(this.po, this.ho) : names,
    )
    socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
    socket.on('error', this.#onError)
    socket.on('close', this.#onClose)
  }

  get isUp(): boolean {
    return this.#ended === undefined
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
  mustBeUp(): void {
    if (this.#ended) throw this.#ended
  }

  /** Writes one packet. @throws ManyhostError MANYHOST_WIRE_LIMIT if it is more than the peer takes */
  send(dir: string, text: string): void {
    if (
      text.length > this.packetLimit ||
      (text.length * 3 > this.packetLimit && Buffer.byteLength(text) > this.packetLimit)
    ) {
      const message = `code of ${Buffer.byteLength(text)} bytes; the peer takes ${this.packetLimit}: send it as a blob`
      throw new ManyhostError('MANYHOST_WIRE_LIMIT', message)
    }
    this.outlet.packet(dir, text)
  }

  /** Begins a posting conversation when it has its turn. */
  async post(options?: ConversationOptions): Promise<PoCo> {
    options?.signal?.throwIfAborted()
    if (this.greeter && !this.peer.isExtended) await this.greeter.gate
    for (;;) {
      this.mustBeUp()
      if (!this.turn.tryTake()) await this.turn.take(options?.signal)
      if (this.pending.size < this.settings.maxPending) break
      // Asked when it is our turn: all who came in the meantime have found room before us.
      this.turn.give()
      await new Promise<void>((go) => this.#room.push(go))
    }
    return this.open(this.numbers.next(this.pending), options)
  }

  /** Begins one at once; the caller has taken the turn. */
  open(coSeq: string, options?: ConversationOptions): PoCo {
    try {
      this.mustBeUp()
      this.counts.posted++
      return new PoCo(this, coSeq, options)
    } catch (error) {
      this.turn.give()
      throw error
    }
  }

  /** Lands code in our environment; its functions find `conversation` as `ho.co`. */
  land(text: string, conversation: Inlet): unknown {
    if (this.isGreeting(conversation.coSeq)) return this.greeter?.onGreeting(text)
    const own = this.environment.callback('__hbi_land__')
    const invoke = (call: () => unknown): unknown => {
      const outer = this.current
      this.current = conversation as Conversation
      try {
        return call()
      } finally {
        this.current = outer
      }
    }
    if (own) {
      const landed = invoke(() => own(text))
      if (landed !== undefined) return landed
    }
    return land(text, this.environment, invoke)
  }

  /** Whether what comes in this conversation is the greeting. */
  isGreeting(coSeq: string): boolean {
    return (
      (coSeq === HELLO || coSeq === READY) && this.greeter !== undefined && !this.peer.isExtended
    )
  }

  pendingEnded(co: PoCo): void {
    this.arrivals.receiverLeft(co)
    this.pending.delete(co.coSeq)
    this.arrivals.failObjects(co)
    this.#room.shift()?.()
    for (const go of this.#ends.splice(0)) go()
  }

  hostedEnded(co: HoCo, error: Error | undefined): void {
    this.hosted.delete(co.coSeq)
    if (error) this.counts.failed++
    for (const go of this.#ends.splice(0)) go()
    this.arrivals.pump()
  }

  /** Whether code of an original peer that cannot be landed ends its conversation, and not the link. */
  mayRefuse(error: Error): boolean {
    const isCode = error instanceof ManyhostError && error.code === 'MANYHOST_WIRE_CODE'
    return isCode && this.settings.badCode === 'report'
  }

  /** An error that nobody waits for. */
  unobserved(error: Error): void {
    this.counts.unobserved++
    this.settings.onError?.(error)
  }

  /** Calls `__hbi_init__`; a link whose init fails is no link. @throws what it throws */
  async init(): Promise<void> {
    try {
      await this.environment.callback('__hbi_init__')?.(this.po, this.ho)
    } catch (error) {
      void this.disconnect(`init failed: ${describe(error)}`)
      throw error
    }
  }

  /** The peer broke the protocol: the link ends, and it is told why. */
  violate(message: string): void {
    void this.disconnect(message, true, new ManyhostError('MANYHOST_WIRE_PROTOCOL', message))
  }

  /** Ends the link, with an `err` packet if there is a reason. Resolves when the connection is closed. */
  async disconnect(reason?: string, tellPeer = true, error?: ManyhostError): Promise<void> {
    if (!this.#ended) {
      this.#callback('hbi_disconnecting', reason)
      if (reason !== undefined && tellPeer) this.outlet.packet('err', reason.slice(0, 4_096))
      this.outlet.flush()
      this.#end(reason, error)
      this.socket.end()
      const timer = afterIdly(this.settings.closeTimeout, () => this.socket.destroy())
      void this.closed.then(() => timer.clear())
      // What still comes is not read: unread bytes would make the kernel reset the connection, and lose the reason.
      this.socket.resume()
    }
    await this.closed
  }

  /**
   * Hands the connection over to another protocol, paused, when both ends have asked for it and all conversations are done.
   * @throws ManyhostError MANYHOST_WIRE_STAGE, MANYHOST_WIRE_CLOSED
   */
  async release(): Promise<Duplex> {
    this.mustBeUp()
    if (!this.isExtended) throw stageError('only a manyhost peer can release a connection')
    this.handover.ask()
    await this.#quiet()
    await this.turn.take()
    this.outlet.packet('release', '')
    this.outlet.flush()
    this.vigil.end()
    await this.handover.agreed
    this.socket.off('data', this.#onData).off('end', this.#onEnd)
    this.socket.off('error', this.#onError).off('close', this.#onClose)
    const error = new ManyhostError('MANYHOST_WIRE_CLOSED', 'the connection was released')
    this.#ended = error
    this.#settleAll(error)
    this.#closed.resolve('released')
    this.socket.pause()
    const rest = this.frames.takeAll()
    if (rest.length > 0) this.socket.unshift(rest)
    return this.socket
  }

  /** Resolves when no conversation is under way. */
  async #quiet(): Promise<void> {
    while (this.hosted.size + this.pending.size > 0 && this.isUp) {
      await new Promise<void>((go) => this.#ends.push(go))
    }
    this.mustBeUp()
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#ended) return
    this.counts.received += chunk.length
    this.arrivals.push(chunk)
  }

  readonly #onEnd = (): void => {
    this.#callback('hbi_peer_done')
    this.arrivals.eof()
  }

  readonly #onError = (error: Error): void => {
    this.#end(`wire error: ${describe(error)}`, undefined, error)
  }

  readonly #onClose = (): void => {
    this.#end('the connection was closed')
    this.vigil.end()
    this.#callback('hbi_disconnected', this.#reason)
    this.#closed.resolve(this.#reason)
  }

  #end(reason: string | undefined, known?: ManyhostError, cause?: Error): void {
    if (this.#ended) return
    this.#reason = reason
    const message = reason === undefined ? 'the link was closed' : `the link ended: ${reason}`
    const error = known ?? new ManyhostError('MANYHOST_WIRE_CLOSED', message, cause && { cause })
    this.#ended = error
    this.#settleAll(error)
    if (cause || this.socket.destroyed) this.socket.destroy()
    this.#callback('__hbi_cleanup__', this.po, this.ho, reason)
  }

  #settleAll(error: ManyhostError): void {
    this.vigil.end()
    this.turn.end(error)
    this.outlet.end()
    this.unacknowledged = [...this.pending.values()]
      .map(({ job }) => job)
      .filter((job) => job !== undefined)
    for (const co of [...this.pending.values()]) co.end(error)
    for (const co of [...this.hosted.values()]) co.end(error)
    for (const go of [...this.#room.splice(0), ...this.#ends.splice(0)]) go()
    this.arrivals.end(error)
    this.handover.end(error)
  }

  /** Calls one of the names that are for us; what it throws is told, and changes nothing. */
  #callback(name: string, ...args: unknown[]): void {
    const callback = this.environment.callback(name)
    if (!callback) return
    const failed = (error: unknown): void => this.unobserved(asError(error))
    try {
      watch(callback(...args), failed)
    } catch (error) {
      failed(error)
    }
  }
}
