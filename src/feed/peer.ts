/** One connection to a broker: who it is, what it may, what it hears, and what waits for it. */
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { asError } from '../core/errors.ts'
import { afterSilence, afterUnref, type Timer } from '../core/time.ts'
import { BatchWriter } from './batch-writer.ts'
import { AUTH_TIMED_OUT, formatLookupFailed } from './broker-messages.ts'
import type { FeedChannel, FeedChannels, Subscriber } from './channels.ts'
import { hasPrefix } from './client-link.ts'
import {
  decodeText,
  errorFrame,
  FrameParser,
  HEADER_BYTES,
  infoFrame,
  OPCODE,
  readShortText,
} from './frame.ts'
import { type Identity, isChannelAllowed, isThenable, verifyProof } from './rights.ts'
import type { FeedErrorCategory, FeedStats, IdentStats, RouteStats } from './stats.ts'

export interface FeedPeerSettings {
  readonly name: string
  readonly nonceSize: number
  readonly patterns: boolean
  /** Bytes that may wait for a slow reader; half of it starts the deadline. */
  readonly bufferLimit: number
  readonly deadline: number
  readonly authTimeout: number
  /** A secret that nobody has. */
  readonly decoy: string
}

/** What peers share. */
export interface FeedPeerContext {
  /** Of now: they may be others later. */
  settings: FeedPeerSettings
  readonly channels: FeedChannels
  readonly stats: FeedStats
  findIdentity(ident: string): Identity | undefined | Promise<Identity | undefined>
  onRefused(peer: FeedPeer, category: FeedErrorCategory, words: string, cause?: Error): void
  onReady(peer: FeedPeer): void
  onClosed(peer: FeedPeer): void
}

/** Longest frame of those who have not said who they are. */
const MAX_FIRST_FRAME_BYTES = HEADER_BYTES + 256 + 20
/** Milliseconds that last words may take to be sent. */
const LAST_FRAME_TIMEOUT_MS = 1_000
const KEEPALIVE_DELAY_MS = 10_000
/** Beginnings that are known again without being read. */
const MAX_CACHED_ROUTES = 8
const MAX_SUBSCRIPTIONS = 10_000

/** Where the messages of this connection with one beginning go. */
interface PublishRoute {
  readonly channel: string
  readonly prefix: Buffer
  readonly stats: RouteStats
}

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
  /** Frames that came behind AUTH while it is looked up. */
  #framesBehindAuth: Buffer[] = []
  /** It says nothing more. */
  #hasReadEnd = false
  #route: PublishRoute | undefined
  readonly #routes: PublishRoute[] = []
  /** Messages that lie one behind the other in `#runBytes`, all of `#route`: they go on in one piece. */
  #runBytes: Buffer | undefined
  #runStart = 0
  #runEnd = 0
  #runCount = 0

  constructor(socket: Socket, hub: FeedPeerContext) {
    this.#context = hub
    this.#socket = socket
    // Of a unix socket there is no address.
    this.address = socket.remoteAddress ? `${socket.remoteAddress} ${socket.remotePort}` : 'unix'
    this.#stats = hub.stats.getIdentStats('')
    this.#writer = new BatchWriter(socket, (bytes) => this.#onDrained(bytes))
    this.#parser = new FrameParser((...frame) => this.#onFrame(...frame))
    this.#parser.maxFrameBytes = MAX_FIRST_FRAME_BYTES
    const { name, nonceSize, authTimeout } = hub.settings
    this.#nonce = randomBytes(nonceSize)
    socket.setKeepAlive(true, KEEPALIVE_DELAY_MS)
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('error', () => undefined)
    // What was said before a hang-up counts, however long it takes to know who said it.
    socket.allowHalfOpen = true
    socket.on('end', () => this.#onReadEnd())
    socket.on('close', () => this.#onClose())
    this.#timer = afterSilence(authTimeout, () => this.#onAuthTimeout(authTimeout))
    this.#writer.push(infoFrame(name, this.#nonce))
  }

  /** '' until it has proved it. */
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

  /** Bytes of a frame that is not whole yet. */
  get heldBytes(): number {
    return this.#parser.heldBytes
  }

  /** Frames for it. A reader that is too slow for them does without: it is told by the deadline. */
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

  /** Ends it after what waits for it, in `grace` ms at most. */
  end(grace: number): void {
    this.#detach()
    this.#writer.flush()
    this.#socket.end()
    this.#socket.resume()
    this.#timer = afterUnref(grace, () => this.#socket.destroy())
  }

  /** Last words, and the end. */
  refuse(category: FeedErrorCategory, words: string, cause?: Error): void {
    if (this.#state === 'ended') return
    this.#context.onRefused(this, category, words, cause)
    if (words !== '') this.#writer.push(errorFrame(words))
    this.end(LAST_FRAME_TIMEOUT_MS)
  }

  #onData(chunk: Buffer): void {
    if (this.#state === 'ended') return
    this.#stats.receivedBytes += chunk.length
    try {
      this.#parser.push(chunk)
    } catch (error) {
      // The original closes without a word, too.
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
    // What was published before is not late for those who are heard before.
    this.#forwardRun()
    if (opcode === OPCODE.auth) {
      this.refuse('second-auth', 'Already authenticated')
    } else if (opcode === OPCODE.subscribe || opcode === OPCODE.unsubscribe) {
      const { end: at } = readShortText(bytes, start, end)
      const name = decodeText(bytes, at, end)
      if (opcode === OPCODE.subscribe) this.#subscribe(name)
      else this.#unsubscribe(name)
    }
    // ERROR and INFO of a client mean nothing, and are let pass as the original does.
  }

  #onAuthFrame(bytes: Buffer, start: number, end: number): void {
    const { text: ident, end: at } = readShortText(bytes, start, end)
    const hash = Buffer.from(bytes.subarray(at, end))
    this.#state = 'checking'
    this.#parser.maxFrameBytes = Number.POSITIVE_INFINITY
    let found: Identity | undefined | Promise<Identity | undefined>
    try {
      found = this.#context.findIdentity(ident)
    } catch (error) {
      this.#onLookupFailed(ident, error)
      return
    }
    if (!isThenable(found)) {
      this.#finishAuthentication(ident, hash, found)
      return
    }
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
      const cause = new Error(`the identities gave no answer within ${authTimeout} ms`)
      this.refuse('error-checking-ident', AUTH_TIMED_OUT, cause)
    }
  }

  #onLookupFailed(ident: string, error: unknown): void {
    this.refuse('error-checking-ident', formatLookupFailed(ident), asError(error))
  }

  #finishAuthentication(ident: string, hash: Buffer, identity: Identity | undefined): void {
    if (this.#state !== 'checking') return
    if (!verifyProof(hash, this.#nonce, identity, this.#context.settings.decoy) || !identity) {
      const category = identity ? 'invalid-secret' : 'invalid-ident'
      this.refuse(category, `Authentication failed for ${ident}`)
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
      for (const frame of early) this.#onFrame(frame[4] as number, frame, 0, frame.length)
    } catch (error) {
      this.refuse('invalid-frame', '', asError(error))
    }
    this.#forwardRun()
    if (this.#hasReadEnd) this.#onReadEnd()
  }

  /** What is known of it is this from now on: who it is not any more, or what it may not, ends it. */
  applyIdentity(identity: Identity | undefined): void {
    if (this.#state !== 'ready') return
    const { ident } = this
    if (!identity || identity.secret !== this.#identity?.secret) {
      const category = identity ? 'invalid-secret' : 'invalid-ident'
      this.refuse(category, `Authentication failed for ${ident}`)
      return
    }
    this.#identity = identity
    this.#route = undefined
    this.#routes.length = 0
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
        this.#routes.find(({ prefix }) => hasPrefix(bytes, start + HEADER_BYTES, end, prefix)) ??
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
    if (
      !isChannelAllowed(this.#identity?.publish ?? [], channel, this.#context.settings.patterns)
    ) {
      const words = `Authkey not allowed to pub here. ident=${ident}, chan=${channel}`
      this.refuse('no-pub-permission', words)
      return undefined
    }
    const prefix = Buffer.from(bytes.subarray(start, stop))
    const route = { channel, prefix, stats: this.#context.stats.getRouteStats(ident, channel) }
    if (this.#routes.unshift(route) > MAX_CACHED_ROUTES) this.#routes.pop()
    return route
  }

  /** Passes the run on as it came: what a subscriber gets is byte for byte what the publisher sent. */
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

  /** If not, that is the end. */
  #refuseUnlessMaySubscribe(name: string): boolean {
    const { patterns } = this.#context.settings
    const isAllowed = isChannelAllowed(this.#identity?.subscribe ?? [], name, patterns)
    const words = `Authkey not allowed to sub here. ident=${this.ident}, chan=${name}`
    if (!isAllowed) this.refuse('no-sub-permission', words)
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

  /** Hears nothing and says nothing any more. */
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
