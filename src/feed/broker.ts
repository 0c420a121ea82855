/** The broker of a feed: connections, messages and subscriptions. */
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { Registry } from 'prom-client'
import { describe } from '../core/describe.ts'
import { asError, ManyhostError } from '../core/errors.ts'
import { Emitter } from '../core/events.ts'
import { isPromiseLike } from '../core/promise.ts'
import { resolveWithin } from '../core/time.ts'
import { type ErrorReporter, emitWarning, FirstFailureReporter } from '../core/user-functions.ts'
import { type FeedOptions, type FeedSettings, parseFeedOptions } from './broker-options.ts'
import { type ChannelListener, FeedChannels, type KeptMessage } from './channels.ts'
import {
  assertChannelName,
  errorFrame,
  HEADER_BYTES,
  publishFrame,
  publishPrefix,
  toOptionError,
} from './frame.ts'
import { type FeedListener, listen } from './listener.ts'
import { registerFeedMetrics } from './metrics.ts'
import { FeedPeer, type FeedPeerContext } from './peer.ts'
import {
  checkIdentity,
  type Identity,
  type IdentitySource,
  isChannelAllowed,
  verifySecret,
} from './rights.ts'
import { closeSource, startSource, waitForIdentity } from './source-calls.ts'
import { type FeedErrorCategory, FeedStats } from './stats.ts'

export interface FeedEvents {
  /** A connection has authenticated. */
  connected: { readonly ident: string; readonly address: string }
  /** A connection has ended. `ident` is empty if it had not authenticated. */
  lost: { readonly ident: string; readonly address: string }
  /** A peer was refused. `message` is the error message that it got. */
  refused: {
    readonly ident: string
    readonly address: string
    readonly category: FeedErrorCategory
    readonly message: string
  }
  /** Identities or certificates cannot be read, or an identity source fails: the feed goes on with what it had. */
  error: Error
}

/** Options that an update cannot change. */
const FIXED_OPTIONS = ['endpoints', 'name', 'registry'] as const

export interface FeedHealth {
  readonly status: 'ok' | 'closed'
  readonly connections: number
  readonly urls: readonly string[]
}

/**
 * A broker of hpfeeds, and the same channels within this process. The constructor starts nothing: call
 * `await feed.listen()`.
 */
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
  /** Takes the errors of the user's functions. */
  readonly #report: ErrorReporter = (error) => {
    if (this.#emitter.hasListeners('error')) this.#emitter.emit('error', error)
    else emitWarning(error)
  }
  /** Settles with the last update: updates run one after the other. Never rejects. */
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
      onRefused: (peer, category, message, cause) =>
        this.#onPeerRefused(peer, category, message, cause),
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

  /** The URLs that it listens on: `tcp://127.0.0.1:20000`, `tls://...`, `unix:/path`. */
  get urls(): readonly string[] {
    return this.#listeners.map(({ url }) => url)
  }

  /** Number of open connections. */
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

  /** @returns a function that removes the listener */
  on<Name extends keyof FeedEvents>(
    name: Name,
    listener: (event: FeedEvents[Name]) => void,
  ): () => void {
    return this.#emitter.on(name, listener)
  }

  /**
   * Loads the identities and listens on all endpoints, or on none. Idempotent.
   * @returns the URLs that it listens on
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
        const onConnection = (socket: Socket): void => this.#acceptConnection(socket)
        this.#listeners.push(await listen(endpoint, onConnection, onError))
      }
    } catch (error) {
      for (const listener of this.#listeners.splice(0)) listener.close()
      await this.#closeSource(this.#settings.source)
      throw error
    }
    return this.urls
  }

  /**
   * Replaces all options while the feed runs; an option that is left out gets its default. Every connected peer is looked
   * up again: its connection ends if its ident is unknown now, if its secret has changed, or if it may not subscribe to one
   * of its channels any more. Identity sources must be new objects: the previous ones are closed.
   * @returns names of changed options that an update cannot apply: `endpoints`, `name`, `registry`
   * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_UNSUPPORTED: nothing has changed then; MANYHOST_FEED_CLOSED
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
    const review = async (peer: FeedPeer): Promise<void> => {
      const { ident } = peer
      try {
        if (!found.has(ident)) found.set(ident, this.#findIdentity(ident))
        peer.applyIdentity(await found.get(ident))
      } catch (error) {
        // A peer that the source cannot look up keeps its identity, as during an outage of the source.
        this.#emitter.emit('error', asError(error))
      }
    }
    for (const listener of [...this.#reviewListeners]) listener()
    await Promise.all([...this.#peers].filter(({ ident }) => ident !== '').map(review))
  }

  /** If an update replaces the source during the lookup, the new source is asked again. */
  #findIdentity(ident: string): ReturnType<IdentitySource['find']> {
    const { source } = this.#settings
    const found = source.find(ident)
    if (!isPromiseLike(found)) return checkIdentity(found)
    const isCurrent = (): boolean => source === this.#settings.source
    return waitForIdentity(found, this.#settings.authTimeout).then(
      (identity) => (isCurrent() ? checkIdentity(identity) : this.#findIdentity(ident)),
      (error) => (isCurrent() ? Promise.reject(error) : this.#findIdentity(ident)),
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

  #onPeerRefused(
    peer: FeedPeer,
    category: FeedErrorCategory,
    message: string,
    cause?: Error,
  ): void {
    const { ident, address } = peer
    this.#stats.countError(ident, category)
    this.#emitter.emit('refused', { ident, address, category, message })
    if (cause && category === 'error-checking-ident') this.#emitter.emit('error', cause)
  }

  #onPeerClosed(peer: FeedPeer): void {
    this.#peers.delete(peer)
    const { ident, address } = peer
    this.#emitter.emit('lost', { ident, address })
    if (this.#peers.size === 0) this.#onEmpty?.()
  }

  /**
   * Publishes from this process, to any channel.
   * @param ident the publisher; by default the feed's own name
   * @throws ManyhostError MANYHOST_INVALID_OPTION for a name or payload that is too long, MANYHOST_FEED_CLOSED
   */
  publish(channel: string, payload: Uint8Array | string, ident = this.name): void {
    this.#assertOpen()
    let frame: Buffer
    let prefix: Buffer
    try {
      prefix = publishPrefix(ident, channel)
      frame = publishFrame(prefix, payload)
    } catch (error) {
      throw toOptionError('Feed', error)
    }
    const body = frame.subarray(HEADER_BYTES + prefix.length)
    this.#stats.getRouteStats(ident, channel).countMessage(body.length)
    const found = this.#channels.get(channel)
    if (found) for (const subscriber of found.subscribers) subscriber.sendFrames(frame, 1)
    if (this.#channels.needsSingleMessages(found))
      this.#channels.publishMessage(channel, ident, body)
  }

  /**
   * Calls `listener` with each message of the channel. This process may subscribe to any channel.
   * @returns a function that removes the listener
   * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_FEED_CLOSED
   */
  subscribe(channel: string, listener: (message: KeptMessage) => void): () => void {
    this.#assertOpen()
    try {
      assertChannelName(channel)
    } catch (error) {
      throw toOptionError('Feed', error)
    }
    const found = this.#channels.getOrCreate(channel)
    // A new function for each call, so that the same listener can be added twice.
    const failure = new FirstFailureReporter({
      what: `a listener of channel ${describe(channel)} of the feed`,
      instead: 'its failure is ignored',
      report: this.#report,
    })
    const guarded: ChannelListener = (message) => failure.run(() => listener(message))
    found.listeners.add(guarded)
    return () => {
      found.listeners.delete(guarded)
      this.#channels.removeIfIdle(found)
    }
  }

  /** The kept messages of these channels after a sequence: see the option `history`. @internal */
  messagesSince(
    channels: readonly string[],
    sequence: number,
  ): ReturnType<FeedChannels['messagesSince']> {
    return this.#channels.messagesSince(channels, sequence)
  }

  /** The sequence of the last message that was kept, or that a listener got. @internal */
  get sequence(): number {
    return this.#channels.sequence
  }

  /** The identity with this ident and secret; undefined if there is none. Rejects if the lookup fails. @internal */
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

  /** Whether the identity may publish or subscribe to a channel. @internal */
  isAllowed(identity: Identity, action: 'publish' | 'subscribe', channel: string): boolean {
    const isAllowed = isChannelAllowed(identity[action], channel, this.#settings.patterns)
    const category = action === 'publish' ? 'no-pub-permission' : 'no-sub-permission'
    if (!isAllowed) this.#stats.countError(identity.ident, category)
    return isAllowed
  }

  /** Calls back when rights may have changed. @returns a function that removes the listener @internal */
  onReview(listener: () => void): () => void {
    this.#reviewListeners.add(listener)
    return () => this.#reviewListeners.delete(listener)
  }

  /** Calls back when the feed closes. @returns a function that removes the listener @internal */
  onClose(listener: () => void): () => void {
    this.#closeListeners.add(listener)
    return () => this.#closeListeners.delete(listener)
  }

  /** Accepts no new connection, sends the frames that wait, within `closeTimeout`, and closes all connections. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    // A start that is under way must finish first: it opens what must be closed.
    await this.#starting?.catch(() => undefined)
    for (const listener of this.#listeners) listener.close()
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
      await closeSource(source, this.#settings.closeTimeout + 1_000)
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
