/** The broker of a feed: who comes, what is said, and who hears it. */
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { Registry } from 'prom-client'
import { asError, ManyhostError } from '../core/errors.ts'
import { Emitter } from '../core/events.ts'
import { FirstFailure, type Report, warn } from '../core/guarded.ts'
import { show } from '../core/options.ts'
import { within } from '../core/time.ts'
import { type FeedOptions, type FeedSettings, parseFeed } from './broker-options.ts'
import { Channels, type KeptMessage, type Tap } from './channels.ts'
import { errorFrame, FrameError, publishFrame, publishPrefix } from './frame.ts'
import { type Listening, listen } from './listening.ts'
import { feedMetrics } from './metrics.ts'
import { type Hub, Peer } from './peer.ts'
import {
  allows,
  checkIdentity,
  type Identity,
  type IdentitySource,
  isThenable,
  sameSecret,
} from './rights.ts'
import { type Category, Stats } from './stats.ts'

export interface FeedEvents {
  /** A connection that has proved who it is. */
  connected: { readonly ident: string; readonly address: string }
  /** Its end; also of one that proved nothing, with an empty `ident`. */
  lost: { readonly ident: string; readonly address: string }
  /** What was refused, with the words that the peer got. */
  refused: {
    readonly ident: string
    readonly address: string
    readonly category: Category
    readonly words: string
  }
  /** Identities or certificates that cannot be read, a source that fails: the feed goes on with what it had. */
  error: Error
}

/** What an update leaves as it was. */
const FIXED = ['endpoints', 'name', 'registry'] as const

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
  readonly #stats = new Stats()
  readonly #channels: Channels
  readonly #peers = new Set<Peer>()
  readonly #hub: Hub
  readonly #decoy = randomBytes(16).toString('hex')
  readonly #farewells = new Set<() => void>()
  readonly #reviewers = new Set<() => void>()
  #listening: Listening[] = []
  #starting: Promise<readonly string[]> | undefined
  /** The last update, one after the other; never rejects. */
  /** Takes what functions of the user failed with. */
  readonly #report: Report = (error) => {
    if (this.#emitter.has('error')) this.#emitter.emit('error', error)
    else warn(error)
  }
  #updated: Promise<unknown> = Promise.resolve()
  #closing: Promise<void> | undefined
  #empty: (() => void) | undefined

  /** @throws ManyhostError MANYHOST_INVALID_OPTION */
  constructor(options: FeedOptions = {}) {
    const settings = parseFeed(options)
    this.#settings = settings
    this.#channels = new Channels({ messages: settings.history, bytes: settings.historyBytes })
    this.#hub = {
      settings: { ...settings, decoy: this.#decoy },
      channels: this.#channels,
      stats: this.#stats,
      find: (ident) => this.#find(ident),
      refused: (peer, category, words, cause) => this.#refused(peer, category, words, cause),
      ready: ({ ident, address }) => this.#emitter.emit('connected', { ident, address }),
      gone: (peer) => this.#gone(peer),
    }
    this.metrics = settings.registry ?? new Registry()
    this.#removeMetrics = feedMetrics({ stats: this.#stats, peers: this.#peers }, this.metrics)
  }

  get name(): string {
    return this.#settings.name
  }

  /** Where it listens: `tcp://127.0.0.1:20000`, `tls://...`, `unix:/path`. */
  get urls(): readonly string[] {
    return this.#listening.map(({ url }) => url)
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
    this.#mustBeOpen()
    this.#starting ??= this.#start()
    return this.#starting
  }

  async #start(): Promise<readonly string[]> {
    const onError = (error: Error): void => this.#emitter.emit('error', error)
    try {
      await startSource(this.#settings.source, onError)
      for (const endpoint of this.#settings.endpoints) {
        const take = (socket: Socket): void => this.#take(socket)
        this.#listening.push(await listen(endpoint, take, onError))
      }
    } catch (error) {
      for (const one of this.#listening.splice(0)) one.close()
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
    const updated = this.#updated.then(() => this.#update(parseFeed(options)))
    this.#updated = updated.catch(() => undefined)
    return updated
  }

  async #update(next: FeedSettings): Promise<readonly string[]> {
    this.#mustBeOpen()
    const before = this.#settings
    if (this.#starting) {
      await this.#starting
      await startSource(next.source, (error) => this.#emitter.emit('error', error))
      if (this.#closing) await this.#closeSource(next.source)
      this.#mustBeOpen()
    }
    const { endpoints, name, registry } = before
    this.#settings = { ...next, endpoints, name, registry }
    this.#hub.settings = { ...this.#settings, decoy: this.#decoy }
    this.#channels.limit({ messages: next.history, bytes: next.historyBytes })
    await this.#review()
    if (this.#starting) await this.#closeSource(before.source)
    return FIXED.filter(
      (key) => next[key] !== undefined && !isDeepStrictEqual(before[key], next[key]),
    )
  }

  async #review(): Promise<void> {
    const found = new Map<string, ReturnType<IdentitySource['find']>>()
    const look = async (peer: Peer): Promise<void> => {
      const { ident } = peer
      try {
        if (!found.has(ident)) found.set(ident, this.#find(ident))
        peer.review(await found.get(ident))
      } catch (error) {
        // Whom the source cannot tell of stays as he was, as he would while it is away.
        this.#emitter.emit('error', asError(error))
      }
    }
    for (const reviewer of [...this.#reviewers]) reviewer()
    await Promise.all([...this.#peers].filter(({ ident }) => ident !== '').map(look))
  }

  /** Of the source of now, also when it became another one while it was asked. */
  #find(ident: string): ReturnType<IdentitySource['find']> {
    const { source } = this.#settings
    const found = source.find(ident)
    if (!isThenable(found)) return checkIdentity(found)
    const isStill = (): boolean => source === this.#settings.source
    return inTime('find()', this.#settings.authTimeout, found).then(
      (identity) => (isStill() ? checkIdentity(identity) : this.#find(ident)),
      (error) => (isStill() ? Promise.reject(error) : this.#find(ident)),
    )
  }

  #take(socket: Socket): void {
    this.#stats.made++
    if (this.#closing || this.#peers.size >= this.#settings.connections) {
      this.#stats.error('', 'too-many-connections')
      socket.on('error', () => undefined)
      socket.end(errorFrame('Too many connections'), () => socket.destroy())
      return
    }
    this.#peers.add(new Peer(socket, this.#hub))
  }

  #refused(peer: Peer, category: Category, words: string, cause?: Error): void {
    const { ident, address } = peer
    this.#stats.error(ident, category)
    this.#emitter.emit('refused', { ident, address, category, words })
    if (cause && category === 'error-checking-ident') this.#emitter.emit('error', cause)
  }

  #gone(peer: Peer): void {
    this.#peers.delete(peer)
    const { ident, address } = peer
    this.#emitter.emit('lost', { ident, address })
    if (this.#peers.size === 0) this.#empty?.()
  }

  /**
   * Publishes from this process, with all rights, by default in the feed's own name.
   * @throws ManyhostError MANYHOST_INVALID_OPTION for what is too long, MANYHOST_FEED_CLOSED
   */
  publish(channel: string, payload: Uint8Array | string, ident = this.name): void {
    this.#mustBeOpen()
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
    this.#stats.route(ident, channel).add(body.length)
    const found = this.#channels.get(channel)
    if (found) for (const one of found.subscribers) one.send(frame, 1)
    if (this.#channels.wantsEach(found)) this.#channels.tell(channel, ident, body)
  }

  /** Hears a channel in this process, with all rights; the function that is returned unsubscribes. */
  subscribe(channel: string, listener: (message: KeptMessage) => void): () => void {
    this.#mustBeOpen()
    if (typeof channel !== 'string' || Buffer.byteLength(channel) > 255) {
      const text = `Feed: a channel is a text of 255 bytes at most, got ${show(channel)}`
      throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
    }
    const found = this.#channels.ensure(channel)
    // A function of its own, so that the same listener can be there twice.
    const failure = new FirstFailure({
      what: `a listener of channel ${show(channel)} of the feed`,
      instead: 'its failure is ignored',
      report: this.#report,
    })
    const tap: Tap = (message) => failure.run(() => listener(message))
    found.taps.add(tap)
    return () => {
      found.taps.delete(tap)
      this.#channels.release(found)
    }
  }

  /** What is kept of these channels after a sequence; see `history`. @internal */
  since(channels: readonly string[], sequence: number): ReturnType<Channels['since']> {
    return this.#channels.since(channels, sequence)
  }

  /** The sequence of the last message that was kept or told. @internal */
  get sequence(): number {
    return this.#channels.sequence
  }

  /** Who has this name and secret, if anybody; rejects when that cannot be looked up. @internal */
  async authenticate(ident: string, secret: string): Promise<Identity | undefined> {
    let identity: Identity | undefined
    try {
      identity = await this.#find(ident)
    } catch (thrown) {
      const error = asError(thrown)
      this.#stats.error('', 'error-checking-ident')
      this.#emitter.emit('error', error)
      throw error
    }
    const isKnown = sameSecret(secret, identity, this.#decoy)
    if (!isKnown) this.#stats.error('', identity ? 'invalid-secret' : 'invalid-ident')
    return isKnown ? identity : undefined
  }

  /** Whether the identity may. @internal */
  may(identity: Identity, what: 'publish' | 'subscribe', channel: string): boolean {
    const isAllowed = allows(identity[what], channel, this.#settings.patterns)
    const category = what === 'publish' ? 'no-pub-permission' : 'no-sub-permission'
    if (!isAllowed) this.#stats.error(identity.ident, category)
    return isAllowed
  }

  /** Calls back when who may what has changed; the function that is returned forgets that. @internal */
  onReview(reviewer: () => void): () => void {
    this.#reviewers.add(reviewer)
    return () => this.#reviewers.delete(reviewer)
  }

  /** Calls back when it closes; the function that is returned forgets that. @internal */
  onClose(farewell: () => void): () => void {
    this.#farewells.add(farewell)
    return () => this.#farewells.delete(farewell)
  }

  /** Takes no new connection, lets each get what waits for it, for `closeTimeout` ms, and ends. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    // What is being started is ended when it is.
    await this.#starting?.catch(() => undefined)
    for (const one of this.#listening) one.close()
    for (const farewell of [...this.#farewells]) farewell()
    const { closeTimeout } = this.#settings
    const empty = new Promise<void>((resolve) => {
      this.#empty = resolve
    })
    for (const peer of [...this.#peers]) peer.end(closeTimeout)
    if (this.#peers.size > 0) await within(closeTimeout + 1_000, empty)
    if (this.#starting) await this.#closeSource(this.#settings.source)
    this.#removeMetrics()
  }

  async #closeSource(source: IdentitySource): Promise<void> {
    try {
      await inTime('close()', this.#settings.closeTimeout + 1_000, source.close?.())
    } catch (error) {
      this.#emitter.emit('error', asError(error))
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #mustBeOpen(): void {
    if (!this.#closing) return
    throw new ManyhostError('MANYHOST_FEED_CLOSED', `the feed ${this.name} is closed`)
  }
}

/** Milliseconds that identities may take to load. */
const START_TIMEOUT = 60_000

async function startSource(source: IdentitySource, onError: (error: Error) => void): Promise<void> {
  await inTime('start()', START_TIMEOUT, source.start?.(onError))
}

/**
 * Settles as the promise of an identity source does, which a user may have written; but not later than after `ms`.
 * @throws ManyhostError MANYHOST_FUNCTION_FAILED
 */
async function inTime<T>(method: string, ms: number, given: T | PromiseLike<T>): Promise<T> {
  if (!isThenable(given)) return given
  const settled = await within(
    ms,
    Promise.resolve(given).then((value) => ({ value })),
  )
  if (settled) return settled.value
  const text = `identities: ${method} gave no answer within ${ms} ms`
  throw new ManyhostError('MANYHOST_FUNCTION_FAILED', text)
}
