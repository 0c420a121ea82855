/** The client of a feed: connects by itself and again, remembers its subscriptions, and loses nothing silently. */

import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import { Emitter } from '../core/events.ts'
import { parseOptions } from '../core/options.ts'
import { after, resolveWithin, type Timer } from '../core/time.ts'
import { guardRandom } from '../core/user-functions.ts'
import { backoffDelay } from './backoff.ts'
import { classifyBrokerError } from './broker-messages.ts'
import { FeedLink, type FeedLinkEnd, type FeedLinkSettings } from './client-link.ts'
import { CLIENT_RULES, type FeedClientOptions } from './client-options.ts'
import { ConditionVariable } from './condition-variable.ts'
import { FrameEncoder } from './frame-encoder.ts'
import { type FeedMessage, Inbox } from './inbox.ts'
import { FeedOutbox } from './outbox.ts'

export interface FeedClientEvents {
  /** The broker has accepted us: at first, and after each reconnect. */
  connected: { readonly broker: string }
  disconnected: { readonly reason: string; readonly retryIn: number }
  /** Words of the broker that did not end the connection, or that did: then everything else says so, too. */
  error: ManyhostError
  /** Messages that will not reach the broker. */
  dropped: { readonly messages: number }
}

/** `waiting`: between two attempts. `refused` and `closed` are ends. */
export type FeedClientState = 'connecting' | 'connected' | 'waiting' | 'refused' | 'closed'

/** Above this many bytes `publish` asks for patience. */
const HIGH_WATER_BYTES = 262_144

interface FeedClientSettings extends FeedLinkSettings {
  readonly retryMin: number
  readonly retryMax: number
  readonly closeTimeout: number
  readonly random: (() => number) | undefined
}

/**
 * Publishes to and reads from a broker of hpfeeds. The constructor begins to connect; all methods may be called at
 * once. A refusal (wrong secret, a channel that is not allowed) ends it: `read`, the iteration, `ready`, `publish` and
 * `close` say so, with the broker's words.
 */
export class FeedClient implements AsyncDisposable, AsyncIterable<FeedMessage> {
  readonly #settings: FeedClientSettings
  readonly #emitter = new Emitter<FeedClientEvents>('feed client')
  readonly #random: () => number
  readonly #channels = new Set<string>()
  readonly #frameEncoder: FrameEncoder
  readonly #outbox: FeedOutbox
  readonly #inbox: Inbox
  #state: FeedClientState = 'connecting'
  #link: FeedLink | undefined
  #broker: string | undefined
  #timer: Timer | undefined
  #failures = 0
  /** The broker's silence was taken for a yes, and it was none: from now on it takes longer to be believed. */
  #needsLongSettle = false
  #dropped = 0
  #refusal: ManyhostError | undefined
  #isRefusalReported = false
  #closing: Promise<void> | undefined
  /** Told of each change of the state, and when there is room again. */
  readonly #stateChanged = new ConditionVariable()

  /** @throws ManyhostError MANYHOST_INVALID_OPTION */
  constructor(options: FeedClientOptions) {
    const parsed = parseOptions('FeedClient', options, CLIENT_RULES)
    for (const name of ['ident', 'secret'] as const) {
      if (parsed[name] === undefined) throw createOptionError(`FeedClient: ${name} is missing`)
    }
    this.#settings = parsed
    this.#random = guardRandom(parsed.random, { what: 'the random of the feed client' })
    this.#frameEncoder = new FrameEncoder(parsed.ident)
    this.#outbox = new FeedOutbox(parsed.bufferLimit, parsed.drop)
    this.#inbox = new Inbox(parsed.readLimit, () => this.#link?.resume())
    this.#connect()
  }

  get state(): FeedClientState {
    return this.#state
  }

  /** The name by which the broker calls itself, once it has. */
  get broker(): string | undefined {
    return this.#broker
  }

  /** Messages that were published and will not reach the broker. */
  get dropped(): number {
    return this.#dropped
  }

  /** Messages that wait for a connection, or for a slow one. */
  get waiting(): number {
    return this.#outbox.size
  }

  /** Subscribes to an event; the function that is returned unsubscribes. */
  on<Name extends keyof FeedClientEvents>(
    name: Name,
    listener: (event: FeedClientEvents[Name]) => void,
  ): () => void {
    return this.#emitter.on(name, listener)
  }

  /**
   * Resolves when the broker has accepted us, as far as the protocol can tell: it never says yes, so this is a message,
   * or silence for `settle` ms after our proof. It waits through reconnects.
   * @throws ManyhostError MANYHOST_FEED_REFUSED, MANYHOST_FEED_CLOSED
   */
  async ready(): Promise<void> {
    await this.#waitUntil(() => this.#state === 'connected')
  }

  /**
   * Sends a message to all subscribers of the channel, ourselves included. While there is no connection it waits in
   * the buffer. Fire and forget: the protocol has no acknowledgement.
   * @returns whether more may come at once; if not, `await client.drained()` keeps the buffer small
   * @throws ManyhostError MANYHOST_INVALID_OPTION for a name or payload that is too long, MANYHOST_FEED_FULL,
   * MANYHOST_FEED_REFUSED, MANYHOST_FEED_CLOSED
   */
  publish(channel: string, payload: Uint8Array | string): boolean {
    this.#assertUsable()
    if (typeof payload !== 'string' && !(payload instanceof Uint8Array)) {
      throw createOptionError(
        `publish: the payload must be bytes or a text, got ${describe(payload)}`,
      )
    }
    const frame = this.#frameEncoder.encodePublish(channel, payload)
    const link = this.#link
    if (link?.hasCapacity && this.#outbox.size === 0) {
      link.sendMessage(frame)
      return link.hasCapacity
    }
    const dropped = this.#outbox.put(frame)
    if (dropped === undefined) {
      throw new ManyhostError(
        'MANYHOST_FEED_FULL',
        `${this.#where}: ${this.#outbox.size} messages wait already, with ${this.#outbox.bytes} bytes`,
      )
    }
    this.#countDropped(dropped)
    return this.#outbox.bytes < HIGH_WATER_BYTES
  }

  /**
   * Publishes whatever comes, and no faster than it is taken: nothing of it is dropped for the buffer's sake.
   * @returns how many there were
   * @throws ManyhostError as `publish`; whatever the source throws
   */
  async publishFrom(
    channel: string,
    source: AsyncIterable<Uint8Array | string> | Iterable<Uint8Array | string>,
  ): Promise<number> {
    let count = 0
    for await (const payload of source) {
      if (!this.publish(channel, payload)) await this.drained()
      count++
    }
    return count
  }

  /** Resolves when what waits is little. @throws ManyhostError MANYHOST_FEED_REFUSED, MANYHOST_FEED_CLOSED */
  async drained(): Promise<void> {
    await this.#waitUntil(() => this.#outbox.size === 0 && this.#link?.hasCapacity !== false)
  }

  /** Resolves when the system has taken all that was published. @throws ManyhostError as `drained` */
  async flush(): Promise<void> {
    await this.#waitUntil(() => this.#outbox.size === 0 && this.#link?.pendingBytes === 0)
  }

  /** Asks for a channel, now and after each reconnect. Once more changes nothing. @throws ManyhostError */
  subscribe(...channels: readonly string[]): void {
    this.#assertUsable()
    for (const channel of channels) {
      const frame = this.#frameEncoder.encodeSubscribe(channel)
      if (this.#channels.has(channel)) continue
      this.#channels.add(channel)
      if (this.#link?.isOpen) this.#link.sendControl(frame)
    }
  }

  unsubscribe(...channels: readonly string[]): void {
    this.#assertUsable()
    for (const channel of channels) {
      if (!this.#channels.delete(channel)) continue
      if (this.#link?.isOpen) this.#link.sendControl(this.#frameEncoder.encodeUnsubscribe(channel))
    }
  }

  /** The next message. @throws ManyhostError MANYHOST_FEED_CLOSED at the end, MANYHOST_FEED_REFUSED */
  async read(): Promise<FeedMessage> {
    const message = this.#inbox.take() ?? (await this.#nextMessage())
    if (message) return message
    throw this.#createClosedError()
  }

  /** All messages, until `close()`, which ends it; a refusal is thrown. Several iterations share what comes. */
  [Symbol.asyncIterator](): AsyncIterator<FeedMessage, undefined> {
    let isOver = false
    // By hand: a generator costs each message three turns of the microtask queue.
    return {
      next: () => {
        const message = isOver ? undefined : this.#inbox.take()
        if (message) return Promise.resolve({ done: false, value: message })
        return isOver ? Promise.resolve(END_RESULT) : this.#nextMessage().then(toIteratorResult)
      },
      return: () => {
        isOver = true
        return Promise.resolve(END_RESULT)
      },
    }
  }

  #nextMessage(): Promise<FeedMessage | undefined> {
    return this.#inbox.next().catch((error) => {
      this.#isRefusalReported = true
      throw error
    })
  }

  /**
   * Sends what waits, for `closeTimeout` ms at most, and ends; what could not be sent is in `dropped`. Reads and
   * iterations end at once. Idempotent.
   * @throws ManyhostError MANYHOST_FEED_REFUSED when the broker has refused, and nobody was told
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const { closeTimeout } = this.#settings
    this.#inbox.end()
    const isDone = (): boolean => this.#state === 'refused' || this.#state === 'closed'
    const sent = (): boolean => isDone() || this.#outbox.size === 0
    await resolveWithin(closeTimeout, this.#stateChanged.waitUntil(sent))
    if (!isDone()) this.#timer?.clear()
    const link = this.#link
    if (link?.isOpen) {
      link.end()
      await resolveWithin(
        closeTimeout,
        this.#stateChanged.waitUntil(() => this.#link !== link),
      )
    }
    this.#timer?.clear()
    this.#link?.destroy(this.#createClosedError())
    if (this.#state !== 'refused') this.#setState('closed')
    this.#dropWaiting()
    if (this.#refusal && !this.#isRefusalReported) throw this.#refusal
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #connect(): void {
    this.#setState('connecting')
    const { settle, connectTimeout } = this.#settings
    const patience = this.#needsLongSettle ? Math.max(settle, connectTimeout) : settle
    const link: FeedLink = new FeedLink(
      { ...this.#settings, settle: patience },
      {
        onOpen: (broker) => {
          this.#broker = broker
          for (const channel of this.#channels) {
            link.sendControl(this.#frameEncoder.encodeSubscribe(channel))
          }
          this.#sendWaiting()
        },
        onAccepted: () => {
          this.#failures = 0
          this.#needsLongSettle = false
          this.#setState('connected')
          this.#sendWaiting()
          this.#emitter.emit('connected', { broker: this.#broker ?? '' })
        },
        onMessage: (message) => {
          this.#inbox.put(message)
          if (this.#inbox.isFull) link.pause()
        },
        onBrokerError: (words) =>
          this.#emitter.emit('error', createRefusedError(this.#where, words)),
        onDrain: () => this.#sendWaiting(),
        onEnd: (end) => this.#onLinkEnd(end),
      },
    )
    this.#link = link
  }

  /** Hands over what waits, as far as there is room. */
  #sendWaiting(): void {
    const link = this.#link
    while (link?.hasCapacity) {
      const frame = this.#outbox.take()
      if (!frame) break
      link.sendMessage(frame)
    }
    this.#stateChanged.notify()
  }

  #onLinkEnd({
    reason,
    brokerError: words,
    wasAccepted,
    sentMessages: pushed,
    unsentMessages: unsent,
    unacceptedFrames: early,
  }: FeedLinkEnd): void {
    this.#link = undefined
    const meaning = words === undefined ? 'passing' : classifyBrokerError(words)
    if (meaning === 'unheard') {
      this.#needsLongSettle ||= wasAccepted
      this.#countDropped(pushed - early.length + this.#outbox.putBack(early))
    } else this.#countDropped(unsent)
    if (words !== undefined && meaning === 'refused') {
      this.#refusal = createRefusedError(this.#where, words)
      this.#setState('refused')
      this.#dropWaiting()
      this.#inbox.end(this.#refusal)
      return
    }
    if (this.#state === 'closed' || (this.#closing && this.#outbox.size === 0)) {
      this.#dropWaiting()
      this.#setState('closed')
      return
    }
    const { retryMin, retryMax } = this.#settings
    const retryIn = backoffDelay(this.#failures++, { min: retryMin, max: retryMax }, this.#random())
    this.#timer = after(retryIn, () => this.#connect())
    this.#setState('waiting')
    this.#emitter.emit('disconnected', { reason: words ?? reason.message, retryIn })
  }

  #setState(state: FeedClientState): void {
    this.#state = state
    this.#stateChanged.notify()
  }

  async #waitUntil(holds: () => boolean): Promise<void> {
    const isOver = (): boolean => this.#state === 'refused' || this.#state === 'closed'
    await this.#stateChanged.waitUntil(() => isOver() || holds())
    if (isOver()) this.#assertUsable()
  }

  #assertUsable(): void {
    if (this.#refusal) {
      this.#isRefusalReported = true
      throw this.#refusal
    }
    if (this.#closing || this.#state === 'closed') throw this.#createClosedError()
  }

  #createClosedError(): ManyhostError {
    return new ManyhostError('MANYHOST_FEED_CLOSED', `${this.#where}: the client is closed`)
  }

  /** What waits still will never be sent. */
  #dropWaiting(): void {
    this.#countDropped(this.#outbox.clear())
  }

  #countDropped(messages: number): void {
    if (messages === 0) return
    this.#dropped += messages
    this.#emitter.emit('dropped', { messages })
  }

  /** For messages: who, and where. */
  get #where(): string {
    const { ident, host, port, path } = this.#settings
    return `feed ${path ?? `${host.includes(':') ? `[${host}]` : host}:${port}`} as ${ident}`
  }
}

const END_RESULT = { done: true, value: undefined } as const

function toIteratorResult(value: FeedMessage | undefined): IteratorResult<FeedMessage, undefined> {
  return value ? { done: false, value } : END_RESULT
}

function createRefusedError(where: string, words: string): ManyhostError {
  return new ManyhostError('MANYHOST_FEED_REFUSED', `${where}: the broker says: ${words}`)
}

function createOptionError(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}
