/** One connection to a broker: its identity, its rights, its subscriptions, and the frames that wait for it. */
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { asError } from '../core/errors.ts'
import { isPromiseLike } from '../core/promise.ts'
import { afterSilence, afterUnref, type Timer } from '../core/time.ts'
import { BatchWriter } from './batch-writer.ts'
import {
  AUTH_TIMED_OUT,
  formatAuthFailed,
  formatLookupFailed,
  formatPublishRefused,
  formatSubscribeRefused,
} from './broker-messages.ts'
import type { FeedSettings } from './broker-options.ts'
import type { FeedChannel, FeedChannels, Subscriber } from './channels.ts'
import {
  decodeText,
  errorFrame,
  FrameParser,
  HEADER_BYTES,
  hasPrefix,
  infoFrame,
  MAX_NAME_BYTES,
  OPCODE,
  opcodeOf,
  PROOF_BYTES,
  readShortText,
} from './frame.ts'
import { type PublishRoute, PublishRoutes } from './publish-routes.ts'
import { type Identity, isChannelAllowed, verifyProof } from './rights.ts'
import type { FeedErrorCategory, FeedStats, IdentStats } from './stats.ts'

/** `decoy`: a secret that nobody has, see `verifyProof`. */
type FeedPeerSettings = FeedSettings & { readonly decoy: string }

/** The broker, as its peers see it. */
export interface FeedPeerContext {
  /** The current settings: an update of the broker replaces them. */
  settings: FeedPeerSettings
  readonly channels: FeedChannels
  readonly stats: FeedStats
  findIdentity(ident: string): Identity | undefined | Promise<Identity | undefined>
  onRefused(peer: FeedPeer, category: FeedErrorCategory, message: string, cause?: Error): void
  onReady(peer: FeedPeer): void
  onClosed(peer: FeedPeer): void
}

/** Longest frame of a peer that has not authenticated: the longest AUTH. */
const MAX_FIRST_FRAME_BYTES = HEADER_BYTES + 1 + MAX_NAME_BYTES + PROOF_BYTES
/** Milliseconds in which the error message before an end must be sent. */
const LAST_FRAME_TIMEOUT_MS = 1_000
const KEEPALIVE_DELAY_MS = 10_000
const MAX_SUBSCRIPTIONS = 10_000

export class FeedPeer implements Subscriber {
  readonly address: string
  readonly #context: FeedPeerContext
  readonly #socket: Socket
  readonly #writer: BatchWriter
  readonly #parser: FrameParser
  readonly #nonce: Buffer
  readonly #channels = new Set<FeedChannel>()
  #state: 'new' | 'checking' | 'ready' | 'ended' = 'new'
  #identity: Identity | undefined
  #stats: IdentStats
  #timer: Timer | undefined
  /** Frames that arrived behind AUTH, while the identity is looked up. */
  #framesBehindAuth: Buffer[] = []
  /** The peer has half-closed the connection. */
  #hasReadEnd = false
  #route: PublishRoute | undefined
  readonly #routes = new PublishRoutes()
  /** A run: messages of `#route` that are adjacent in one chunk, `#runBytes`. They are forwarded in one piece. */
  #runBytes: Buffer | undefined
  #runStart = 0
  #runEnd = 0
  #runCount = 0

  constructor(socket: Socket, context: FeedPeerContext) {
    this.#context = context
    this.#socket = socket
    // A unix socket has no remote address.
    this.address = socket.remoteAddress ? `${socket.remoteAddress} ${socket.remotePort}` : 'unix'
    this.#stats = context.stats.getIdentStats('')
    this.#writer = new BatchWriter(socket, (bytes) => this.#onDrained(bytes))
    this.#parser = new FrameParser((...frame) => this.#onFrame(...frame))
    this.#parser.maxFrameBytes = MAX_FIRST_FRAME_BYTES
    const { name, nonceSize, authTimeout } = context.settings
    this.#nonce = randomBytes(nonceSize)
    socket.setKeepAlive(true, KEEPALIVE_DELAY_MS)
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('error', () => undefined)
    // Frames before a half-close count, however long the lookup of the peer's identity takes.
    socket.allowHalfOpen = true
    socket.on('end', () => this.#onReadEnd())
    socket.on('close', () => this.#onClose())
    this.#timer = afterSilence(authTimeout, () => this.#onAuthTimeout(authTimeout))
    this.#writer.push(infoFrame(name, this.#nonce))
  }

  /** '' until the peer has authenticated. */
  get ident(): string {
    return this.#identity?.ident ?? ''
  }

  get subscriptions(): ReadonlySet<FeedChannel> {
    return this.#channels
  }

  /** Bytes that wait to be sent. */
  get pendingBytes(): number {
    return this.#writer.pendingBytes
  }

  /** Bytes of an incomplete frame. */
  get heldBytes(): number {
    return this.#parser.heldBytes
  }

  /** Sends frames to the peer. They are dropped if too much waits for it already: see `deadline`. */
  sendFrames(frames: Buffer, messages: number): void {
    if (this.#state !== 'ready') return
    const { bufferLimit } = this.#context.settings
    const pending = this.#writer.pendingBytes + frames.length
    if (pending > bufferLimit) {
      this.#stats.droppedMessages += messages
      return
    }
    this.#stats.queuedBytes += frames.length
    this.#writer.push(frames)
    if (pending > bufferLimit / 2 && !this.#timer) {
      this.#stats.deadlineStarts++
      this.#timer = afterSilence(this.#context.settings.deadline, () =>
        this.refuse('deadline-timer-expired', 'Backpressure deadline timer expired'),
      )
    }
  }

  #onDrained(bytes: number): void {
    this.#stats.drainedBytes += bytes
    if (this.#state !== 'ready' || !this.#timer) return
    if (this.#writer.pendingBytes > this.#context.settings.bufferLimit / 8) return
    this.#timer.clear()
    this.#timer = undefined
    this.#stats.deadlineRecoveries++
  }

  /** Ends the connection when the waiting frames are sent, and after `grace` milliseconds at the latest. */
  end(grace: number): void {
    this.#detach()
    this.#writer.flush()
    this.#socket.end()
    this.#socket.resume()
    this.#timer = afterUnref(grace, () => this.#socket.destroy())
  }

  /** Sends an error message, unless it is empty, and ends the connection. */
  refuse(category: FeedErrorCategory, message: string, cause?: Error): void {
    if (this.#state === 'ended') return
    this.#context.onRefused(this, category, message, cause)
    if (message !== '') this.#writer.push(errorFrame(message))
    this.end(LAST_FRAME_TIMEOUT_MS)
  }

  #onData(chunk: Buffer): void {
    if (this.#state === 'ended') return
    this.#stats.receivedBytes += chunk.length
    try {
      this.#parser.push(chunk)
    } catch (error) {
      // Without an error message, as in the original.
      this.#forwardRun()
      this.refuse('invalid-frame', '', asError(error))
      return
    }
    this.#forwardRun()
  }

  #onFrame(opcode: number, bytes: Buffer, start: number, end: number): void {
    if (this.#state === 'ready') {
      if (opcode === OPCODE.publish) this.#onPublish(bytes, start, end)
      else this.#onControlFrame(opcode, bytes, start + HEADER_BYTES, end)
    } else if (this.#state === 'checking') {
      this.#framesBehindAuth.push(Buffer.from(bytes.subarray(start, end)))
    } else if (this.#state === 'new') {
      if (opcode === OPCODE.auth) this.#onAuthFrame(bytes, start + HEADER_BYTES, end)
      else this.refuse('invalid-first-message', 'First message was not AUTH')
    }
  }

  #onControlFrame(opcode: number, bytes: Buffer, start: number, end: number): void {
    // Messages that arrived before this frame are forwarded before it takes effect.
    this.#forwardRun()
    if (opcode === OPCODE.auth) {
      this.refuse('second-auth', 'Already authenticated')
    } else if (opcode === OPCODE.subscribe || opcode === OPCODE.unsubscribe) {
      const { end: at } = readShortText(bytes, start, end)
      const name = decodeText(bytes, at, end)
      if (opcode === OPCODE.subscribe) this.#subscribe(name)
      else this.#unsubscribe(name)
    }
    // ERROR and INFO of a client mean nothing. They are ignored, as in the original.
  }

  #onAuthFrame(bytes: Buffer, start: number, end: number): void {
    const { text: ident, end: at } = readShortText(bytes, start, end)
    const hash = Buffer.from(bytes.subarray(at, end))
    this.#state = 'checking'
    this.#parser.maxFrameBytes = Number.POSITIVE_INFINITY
    let found: ReturnType<FeedPeerContext['findIdentity']>
    try {
      found = this.#context.findIdentity(ident)
    } catch (error) {
      this.#onLookupFailed(ident, error)
      return
    }
    if (!isPromiseLike(found)) return this.#finishAuthentication(ident, hash, found)
    this.#socket.pause()
    Promise.resolve(found)
      .then((identity) => {
        this.#finishAuthentication(ident, hash, identity)
        this.#socket.resume()
      })
      .catch((error) => this.#onLookupFailed(ident, error))
  }

  #onAuthTimeout(authTimeout: number): void {
    if (this.#state !== 'checking') this.refuse('auth-timeout', AUTH_TIMED_OUT)
    else {
      const cause = new Error(`the identity source did not answer within ${authTimeout} ms`)
      this.refuse('error-checking-ident', AUTH_TIMED_OUT, cause)
    }
  }

  #refuseIdentity(ident: string, identity: Identity | undefined): void {
    this.refuse(identity ? 'invalid-secret' : 'invalid-ident', formatAuthFailed(ident))
  }

  #onLookupFailed(ident: string, error: unknown): void {
    this.refuse('error-checking-ident', formatLookupFailed(ident), asError(error))
  }

  #finishAuthentication(ident: string, hash: Buffer, identity: Identity | undefined): void {
    if (this.#state !== 'checking') return
    if (!verifyProof(hash, this.#nonce, identity, this.#context.settings.decoy) || !identity) {
      this.#refuseIdentity(ident, identity)
      return
    }
    this.#timer?.clear()
    this.#timer = undefined
    this.#identity = identity
    this.#stats = this.#context.stats.getIdentStats(identity.ident)
    this.#stats.connectionsReady++
    this.#state = 'ready'
    this.#context.onReady(this)
    const early = this.#framesBehindAuth
    this.#framesBehindAuth = []
    try {
      for (const frame of early) this.#onFrame(opcodeOf(frame), frame, 0, frame.length)
    } catch (error) {
      this.refuse('invalid-frame', '', asError(error))
    }
    this.#forwardRun()
    if (this.#hasReadEnd) this.#onReadEnd()
  }

  /**
   * Replaces the identity, after the broker was updated. The connection ends if the identity is unknown now or has another
   * secret, or if one of the subscriptions is not allowed any more.
   */
  applyIdentity(identity: Identity | undefined): void {
    if (this.#state !== 'ready') return
    const { ident } = this
    if (!identity || identity.secret !== this.#identity?.secret) {
      this.#refuseIdentity(ident, identity)
      return
    }
    this.#identity = identity
    this.#route = undefined
    this.#routes.clear()
    for (const { name } of this.#channels) if (!this.#refuseUnlessMaySubscribe(name)) return
  }

  #onReadEnd(): void {
    this.#hasReadEnd = true
    if (this.#state !== 'checking' && this.#state !== 'ended') {
      this.end(this.#context.settings.deadline)
    }
  }

  #onPublish(bytes: Buffer, start: number, end: number): void {
    let route = this.#route
    if (!route || !hasPrefix(bytes, start + HEADER_BYTES, end, route.prefix)) {
      this.#forwardRun()
      route =
        this.#routes.find(bytes, start + HEADER_BYTES, end) ??
        this.#openRoute(bytes, start + HEADER_BYTES, end)
      this.#route = route
      if (!route) return
    }
    route.stats.countMessage(end - start - HEADER_BYTES - route.prefix.length)
    if (this.#runBytes === bytes && this.#runEnd === start) {
      this.#runEnd = end
      this.#runCount++
      return
    }
    this.#forwardRun()
    this.#runBytes = bytes
    this.#runStart = start
    this.#runEnd = end
    this.#runCount = 1
  }

  #openRoute(bytes: Buffer, start: number, end: number): PublishRoute | undefined {
    const { text: ident, end: at } = readShortText(bytes, start, end)
    if (ident !== this.ident) {
      this.refuse('ident-mismatch-pub', `Invalid authkey in message, ident=${ident}`)
      return undefined
    }
    const { text: channel, end: stop } = readShortText(bytes, at, end)
    const { patterns } = this.#context.settings
    if (!isChannelAllowed(this.#identity?.publish ?? [], channel, patterns)) {
      this.refuse('no-pub-permission', formatPublishRefused(ident, channel))
      return undefined
    }
    const prefix = Buffer.from(bytes.subarray(start, stop))
    const route = { channel, prefix, stats: this.#context.stats.getRouteStats(ident, channel) }
    this.#routes.add(route)
    return route
  }

  /** Forwards the run as it arrived: a subscriber gets the publisher's frames byte for byte. */
  #forwardRun(): void {
    const bytes = this.#runBytes
    const route = this.#route
    if (!bytes || !route) return
    this.#runBytes = undefined
    const { channels } = this.#context
    const frames = bytes.subarray(this.#runStart, this.#runEnd)
    const channel = channels.get(route.channel)
    if (channel) for (const one of channel.subscribers) one.sendFrames(frames, this.#runCount)
    if (!channels.needsSingleMessages(channel)) return
    for (let at = 0; at < frames.length; ) {
      const end = at + frames.readInt32BE(at)
      const payload = frames.subarray(at + HEADER_BYTES + route.prefix.length, end)
      channels.publishMessage(route.channel, this.ident, payload)
      at = end
    }
  }

  /** Ends the connection if the peer may not subscribe; returns whether it may. */
  #refuseUnlessMaySubscribe(name: string): boolean {
    const { patterns } = this.#context.settings
    const isAllowed = isChannelAllowed(this.#identity?.subscribe ?? [], name, patterns)
    if (!isAllowed) this.refuse('no-sub-permission', formatSubscribeRefused(this.ident, name))
    return isAllowed
  }

  #subscribe(name: string): void {
    if (!this.#refuseUnlessMaySubscribe(name)) return
    if (this.#channels.size >= MAX_SUBSCRIPTIONS) {
      this.refuse('too-many-subscriptions', `Too many subscriptions. ident=${this.ident}`)
      return
    }
    const channel = this.#context.channels.getOrCreate(name)
    channel.subscribers.add(this)
    this.#channels.add(channel)
  }

  #unsubscribe(name: string): void {
    const channel = this.#context.channels.get(name)
    if (!channel || !this.#channels.delete(channel)) return
    channel.subscribers.delete(this)
    this.#context.channels.removeIfIdle(channel)
  }

  /** Stops parsing, and leaves all channels. */
  #detach(): void {
    this.#state = 'ended'
    this.#timer?.clear()
    this.#timer = undefined
    this.#parser.stop()
    this.#framesBehindAuth = []
    this.#runBytes = undefined
    for (const channel of this.#channels) {
      channel.subscribers.delete(this)
      this.#context.channels.removeIfIdle(channel)
    }
    this.#channels.clear()
  }

  #onClose(): void {
    this.#detach()
    if (this.#identity) this.#stats.connectionsLost++
    this.#context.onClosed(this)
  }
}
