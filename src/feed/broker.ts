/** The broker of a feed: who comes, what is said, and who hears it. */
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { Registry } from 'prom-client'
import { describe } from '../core/describe.ts'
import { asError, ManyhostError } from '../core/errors.ts'
import { Emitter } from '../core/events.ts'
import { resolveWithin } from '../core/time.ts'
import { type ErrorReporter, emitWarning, FirstFailureReporter } from '../core/user-functions.ts'
import { type FeedOptions, type FeedSettings, parseFeedOptions } from './broker-options.ts'
import { type ChannelListener, FeedChannels, type KeptMessage } from './channels.ts'
import { errorFrame, FrameError, publishFrame, publishPrefix } from './frame.ts'
import { type FeedListener, listen } from './listener.ts'
import { registerFeedMetrics } from './metrics.ts'
import { FeedPeer, type FeedPeerContext } from './peer.ts'
import {
  checkIdentity,
  type Identity,
  type IdentitySource,
  isChannelAllowed,
  isThenable,
  verifySecret,
} from './rights.ts'
import { type FeedErrorCategory, FeedStats } from './stats.ts'

export interface FeedEvents {
  /** A connection that has proved who it is. */
  connected: { readonly ident: string; readonly address: string }
  /** Its end; also of one that proved nothing, with an empty `ident`. */
  lost: { readonly ident: string; readonly address: string }
  /** What was refused, with the words that the peer got. */
  refused: {
    readonly ident: string
    readonly address: string
    readonly category: FeedErrorCategory
    readonly words: string
  }
  /** Identities or certificates that cannot be read, a source that fails: the feed goes on with what it had. */
  error: Error
}

/** What an update leaves as it was. */
const FIXED_OPTIONS = ['endpoints', 'name', 'registry'] as const

export interface FeedHealth {
  readonly status: 'ok' | 'closed'
  readonly connections: number
  readonly urls: readonly string[]
}

/** A broker of hpfeeds, and channels within this process. The constructor starts nothing: `await feed.listen()`. */
export class Feed implements AsyncDisposable {
  /** For Prometheus: `await feed.metrics.metrics()`. */
  readonly metrics: Registry
  readonly #removeMetrics: () => void
  #settings: FeedSettings
  readonly #emitter = new Emitter<FeedEvents>('feed')
  readonly #stats = new FeedStats()
  readonly #channels: FeedChannels
  readonly #peers = new Set<FeedPeer>()
  readonly #peerContext: FeedPeerContext
  readonly #decoy = randomBytes(16).toString('hex')
  readonly #closeListeners = new Set<() => void>()
  readonly #reviewListeners = new Set<() => void>()
  #listeners: FeedListener[] = []
  #starting: Promise<readonly string[]> | undefined
  /** The last update, one after the other; never rejects. */
  /** Takes what functions of the user failed with. */
  readonly #report: ErrorReporter = (error) => {
    if (this.#emitter.hasListeners('error')) this.#emitter.emit('error', error)
    else emitWarning(error)
  }
  #lastUpdate: Promise<unknown> = Promise.resolve()
  #closing: Promise<void> | undefined
  #onEmpty: (() => void) | undefined

  /** @throws ManyhostError MANYHOST_INVALID_OPTION */
  constructor(options: FeedOptions = {}) {
    const settings = parseFeedOptions(options)
    this.#settings = settings
    this.#channels = new FeedChannels({
      maxMessages: settings.history,
      maxBytes: settings.historyBytes,
    })
    this.#peerContext = {
      settings: { ...settings, decoy: this.#decoy },
      channels: this.#channels,
      stats: this.#stats,
      findIdentity: (ident) => this.#findIdentity(ident),
      onRefused: (peer, category, words, cause) =>
        this.#onPeerRefused(peer, category, words, cause),
      onReady: ({ ident, address }) => this.#emitter.emit('connected', { ident, address }),
      onClosed: (peer) => this.#onPeerClosed(peer),
    }
    this.metrics = settings.registry ?? new Registry()
    this.#removeMetrics = registerFeedMetrics(
      { stats: this.#stats, peers: this.#peers },
      this.metrics,
    )
  }

  get name(): string {
    return this.#settings.name
  }

  /** Where it listens: `tcp://127.0.0.1:20000`, `tls://...`, `unix:/path`. */
  get urls(): readonly string[] {
    return this.#listeners.map(({ url }) => url)
  }

  /** Open connections. */
  get connections(): number {
    return this.#peers.size
  }

  get isClosed(): boolean {
    return this.#closing !== undefined
  }

  health(): FeedHealth {
    const { connections, urls } = this
    return { status: this.isClosed ? 'closed' : 'ok', connections, urls }
  }

  /** Subscribes to an event; the function that is returned unsubscribes. */
  on<Name extends keyof FeedEvents>(
    name: Name,
    listener: (event: FeedEvents[Name]) => void,
  ): () => void {
    return this.#emitter.on(name, listener)
  }

  /**
   * Loads identities and listens on all endpoints, or on none. Resolves with where. Idempotent.
   * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_UNSUPPORTED, MANYHOST_FEED_CLOSED
   */
  listen(): Promise<readonly string[]> {
    this.#assertOpen()
    this.#starting ??= this.#start()
    return this.#starting
  }

  async #start(): Promise<readonly string[]> {
    const onError = (error: Error): void => this.#emitter.emit('error', error)
    try {
      await startSource(this.#settings.source, onError)
      for (const endpoint of this.#settings.endpoints) {
        const take = (socket: Socket): void => this.#acceptConnection(socket)
        this.#listeners.push(await listen(endpoint, take, onError))
      }
    } catch (error) {
      for (const one of this.#listeners.splice(0)) one.close()
      await this.#closeSource(this.#settings.source)
      throw error
    }
    return this.urls
  }

  /**
   * Applies other options while it runs, the whole of them: what is left out is at its default again. All who are here
   * are looked up anew: who is not known any more, has another secret, or hears what he may not, is ended. Sources
   * are to be new ones: the ones before are closed.
   * @returns names of those that are as they were, and need another feed: `endpoints`, `name`, `registry`
   * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_UNSUPPORTED, and nothing has changed; MANYHOST_FEED_CLOSED
   */
  update(options: FeedOptions): Promise<readonly string[]> {
    const updated = this.#lastUpdate.then(() => this.#update(parseFeedOptions(options)))
    this.#lastUpdate = updated.catch(() => undefined)
    return updated
  }

  async #update(next: FeedSettings): Promise<readonly string[]> {
    this.#assertOpen()
    const before = this.#settings
    if (this.#starting) {
      await this.#starting
      await startSource(next.source, (error) => this.#emitter.emit('error', error))
      if (this.#closing) await this.#closeSource(next.source)
      this.#assertOpen()
    }
    const { endpoints, name, registry } = before
    this.#settings = { ...next, endpoints, name, registry }
    this.#peerContext.settings = { ...this.#settings, decoy: this.#decoy }
    this.#channels.setLimits({ maxMessages: next.history, maxBytes: next.historyBytes })
    await this.#reviewPeers()
    if (this.#starting) await this.#closeSource(before.source)
    return FIXED_OPTIONS.filter(
      (key) => next[key] !== undefined && !isDeepStrictEqual(before[key], next[key]),
    )
  }

  async #reviewPeers(): Promise<void> {
    const found = new Map<string, ReturnType<IdentitySource['find']>>()
    const look = async (peer: FeedPeer): Promise<void> => {
      const { ident } = peer
      try {
        if (!found.has(ident)) found.set(ident, this.#findIdentity(ident))
        peer.applyIdentity(await found.get(ident))
      } catch (error) {
        // Whom the source cannot tell of stays as he was, as he would while it is away.
        this.#emitter.emit('error', asError(error))
      }
    }
    for (const reviewer of [...this.#reviewListeners]) reviewer()
    await Promise.all([...this.#peers].filter(({ ident }) => ident !== '').map(look))
  }

  /** Of the source of now, also when it became another one while it was asked. */
  #findIdentity(ident: string): ReturnType<IdentitySource['find']> {
    const { source } = this.#settings
    const found = source.find(ident)
    if (!isThenable(found)) return checkIdentity(found)
    const isStill = (): boolean => source === this.#settings.source
    return settleWithin('find()', this.#settings.authTimeout, found).then(
      (identity) => (isStill() ? checkIdentity(identity) : this.#findIdentity(ident)),
      (error) => (isStill() ? Promise.reject(error) : this.#findIdentity(ident)),
    )
  }

  #acceptConnection(socket: Socket): void {
    this.#stats.connectionsMade++
    if (this.#closing || this.#peers.size >= this.#settings.connections) {
      this.#stats.countError('', 'too-many-connections')
      socket.on('error', () => undefined)
      socket.end(errorFrame('Too many connections'), () => socket.destroy())
      return
    }
    this.#peers.add(new FeedPeer(socket, this.#peerContext))
  }

  #onPeerRefused(peer: FeedPeer, category: FeedErrorCategory, words: string, cause?: Error): void {
    const { ident, address } = peer
    this.#stats.countError(ident, category)
    this.#emitter.emit('refused', { ident, address, category, words })
    if (cause && category === 'error-checking-ident') this.#emitter.emit('error', cause)
  }

  #onPeerClosed(peer: FeedPeer): void {
    this.#peers.delete(peer)
    const { ident, address } = peer
    this.#emitter.emit('lost', { ident, address })
    if (this.#peers.size === 0) this.#onEmpty?.()
  }

  /**
   * Publishes from this process, with all rights, by default in the feed's own name.
   * @throws ManyhostError MANYHOST_INVALID_OPTION for what is too long, MANYHOST_FEED_CLOSED
   */
  publish(channel: string, payload: Uint8Array | string, ident = this.name): void {
    this.#assertOpen()
    let frame: Buffer
    let prefix: Buffer
    try {
      prefix = publishPrefix(ident, channel)
      frame = publishFrame(prefix, payload)
    } catch (error) {
      if (!(error instanceof FrameError)) throw error
      throw new ManyhostError('MANYHOST_INVALID_OPTION', `Feed: ${error.message}`)
    }
    const body = frame.subarray(5 + prefix.length)
    this.#stats.getRouteStats(ident, channel).countMessage(body.length)
    const found = this.#channels.get(channel)
    if (found) for (const one of found.subscribers) one.sendFrames(frame, 1)
    if (this.#channels.needsSingleMessages(found))
      this.#channels.publishMessage(channel, ident, body)
  }

  /** Hears a channel in this process, with all rights; the function that is returned unsubscribes. */
  subscribe(channel: string, listener: (message: KeptMessage) => void): () => void {
    this.#assertOpen()
    if (typeof channel !== 'string' || Buffer.byteLength(channel) > 255) {
      const text = `Feed: a channel is a text of 255 bytes at most, got ${describe(channel)}`
      throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
    }
    const found = this.#channels.getOrCreate(channel)
    // A function of its own, so that the same listener can be there twice.
    const failure = new FirstFailureReporter({
      what: `a listener of channel ${describe(channel)} of the feed`,
      instead: 'its failure is ignored',
      report: this.#report,
    })
    const tap: ChannelListener = (message) => failure.run(() => listener(message))
    found.listeners.add(tap)
    return () => {
      found.listeners.delete(tap)
      this.#channels.removeIfIdle(found)
    }
  }

  /** What is kept of these channels after a sequence; see `history`. @internal */
  messagesSince(
    channels: readonly string[],
    sequence: number,
  ): ReturnType<FeedChannels['messagesSince']> {
    return this.#channels.messagesSince(channels, sequence)
  }

  /** The sequence of the last message that was kept or told. @internal */
  get sequence(): number {
    return this.#channels.sequence
  }

  /** Who has this name and secret, if anybody; rejects when that cannot be looked up. @internal */
  async authenticate(ident: string, secret: string): Promise<Identity | undefined> {
    let identity: Identity | undefined
    try {
      identity = await this.#findIdentity(ident)
    } catch (thrown) {
      const error = asError(thrown)
      this.#stats.countError('', 'error-checking-ident')
      this.#emitter.emit('error', error)
      throw error
    }
    const isKnown = verifySecret(secret, identity, this.#decoy)
    if (!isKnown) this.#stats.countError('', identity ? 'invalid-secret' : 'invalid-ident')
    return isKnown ? identity : undefined
  }

  /** Whether the identity may. @internal */
  isAllowed(identity: Identity, what: 'publish' | 'subscribe', channel: string): boolean {
    const isAllowed = isChannelAllowed(identity[what], channel, this.#settings.patterns)
    const category = what === 'publish' ? 'no-pub-permission' : 'no-sub-permission'
    if (!isAllowed) this.#stats.countError(identity.ident, category)
    return isAllowed
  }

  /** Calls back when who may what has changed; the function that is returned forgets that. @internal */
  onReview(reviewer: () => void): () => void {
    this.#reviewListeners.add(reviewer)
    return () => this.#reviewListeners.delete(reviewer)
  }

  /** Calls back when it closes; the function that is returned forgets that. @internal */
  onClose(listener: () => void): () => void {
    this.#closeListeners.add(listener)
    return () => this.#closeListeners.delete(listener)
  }

  /** Takes no new connection, lets each get what waits for it, for `closeTimeout` ms, and ends. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    // What is being started is ended when it is.
    await this.#starting?.catch(() => undefined)
    for (const one of this.#listeners) one.close()
    for (const listener of [...this.#closeListeners]) listener()
    const { closeTimeout } = this.#settings
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve
    })
    for (const peer of [...this.#peers]) peer.end(closeTimeout)
    if (this.#peers.size > 0) await resolveWithin(closeTimeout + 1_000, empty)
    if (this.#starting) await this.#closeSource(this.#settings.source)
    this.#removeMetrics()
  }

  async #closeSource(source: IdentitySource): Promise<void> {
    try {
      await settleWithin('close()', this.#settings.closeTimeout + 1_000, source.close?.())
    } catch (error) {
      this.#emitter.emit('error', asError(error))
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #assertOpen(): void {
    if (!this.#closing) return
    throw new ManyhostError('MANYHOST_FEED_CLOSED', `the feed ${this.name} is closed`)
  }
}

/** Milliseconds that identities may take to load. */
const START_TIMEOUT_MS = 60_000

async function startSource(source: IdentitySource, onError: (error: Error) => void): Promise<void> {
  await settleWithin('start()', START_TIMEOUT_MS, source.start?.(onError))
}

/**
 * Settles as the promise of an identity source does, which a user may have written; but not later than after `ms`.
 * @throws ManyhostError MANYHOST_FUNCTION_FAILED
 */
async function settleWithin<T>(method: string, ms: number, result: T | PromiseLike<T>): Promise<T> {
  if (!isThenable(result)) return result
  const settled = await resolveWithin(
    ms,
    Promise.resolve(result).then((value) => ({ value })),
  )
  if (settled) return settled.value
  const text = `identities: ${method} gave no answer within ${ms} ms`
  throw new ManyhostError('MANYHOST_FUNCTION_FAILED', text)
}
