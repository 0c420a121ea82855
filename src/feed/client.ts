/** The client of a feed: connects and reconnects by itself, keeps its subscriptions, and counts every lost message. */

import { backoffDelay } from '../core/backoff.ts'
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import { Emitter } from '../core/events.ts'
import { parseOptions } from '../core/options.ts'
import { after, resolveWithin, type Timer } from '../core/time.ts'
import { guardRandom } from '../core/user-functions.ts'
import { classifyBrokerError } from './broker-messages.ts'
import { FeedLink, type FeedLinkEnd } from './client-link.ts'
import { CLIENT_RULES, type FeedClientOptions, type FeedClientSettings } from './client-options.ts'
import { ConditionVariable } from './condition-variable.ts'
import { FrameEncoder } from './frame-encoder.ts'
import { type FeedMessage, Inbox } from './inbox.ts'
import { FeedOutbox } from './outbox.ts'

export interface FeedClientEvents {
  /** The broker has accepted us, at first or after a reconnect. */
  connected: { readonly broker: string }
  /** `retryIn`: milliseconds until the next attempt. */
  disconnected: { readonly reason: string; readonly retryIn: number }
  /** An error message of the broker. If it is a refusal, all methods reject with it as well. */
  error: ManyhostError
  /** Messages that will never reach the broker. */
  dropped: { readonly messages: number }
}

/** `waiting`: between two attempts to connect. `refused` and `closed` are final. */
export type FeedClientState = 'connecting' | 'connected' | 'waiting' | 'refused' | 'closed'

/** If more bytes than this wait, `publish` returns false. */
const HIGH_WATER_BYTES = 262_144

/**
 * Publishes to a broker of hpfeeds, and reads from it. The constructor begins to connect; all methods may be called at
 * once. A refusal (a wrong secret, a channel that is not allowed) is final: `read`, the iteration, `ready`, `publish` and
 * `close` fail with the broker's message.
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
  /** The broker's silence was taken for acceptance by mistake: from now on the client waits longer. */
  #needsLongSettle = false
  #dropped = 0
  #refusal: ManyhostError | undefined
  #isRefusalReported = false
  #closing: Promise<void> | undefined
  /** Notified at each change of the state, and when messages have left the outbox. */
  readonly #stateChanged = new ConditionVariable()

  /** @throws ManyhostError MANYHOST_INVALID_OPTION */
  constructor(options: FeedClientOptions) {
    const parsed = parseOptions('FeedClient', options, CLIENT_RULES)
    for (const name of ['ident', 'secret'] as const) {
      if (parsed[name] === undefined)
        throw createOptionError(`FeedClient: the option ${name} is missing`)
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

  /** The broker's name; undefined until the broker has sent it. */
  get broker(): string | undefined {
    return this.#broker
  }

  /** Messages that were published and will never reach the broker. */
  get dropped(): number {
    return this.#dropped
  }

  /** Messages that wait for a connection, or for a slow one. */
  get waiting(): number {
    return this.#outbox.size
  }

  /** @returns a function that removes the listener */
  on<Name extends keyof FeedClientEvents>(
    name: Name,
    listener: (event: FeedClientEvents[Name]) => void,
  ): () => void {
    return this.#emitter.on(name, listener)
  }

  /**
   * Resolves when the broker has accepted us. The protocol has no frame for that: a message, or `settle` milliseconds of
   * silence after our proof, count as acceptance. Reconnects in between do not reject it.
   * @throws ManyhostError MANYHOST_FEED_REFUSED, MANYHOST_FEED_CLOSED
   */
  async ready(): Promise<void> {
    await this.#waitUntil(() => this.#state === 'connected')
  }

  /**
   * Sends a message to all subscribers of the channel; this client gets it too if it has subscribed. Without a connection
   * the message waits, within `bufferLimit`. The protocol has no acknowledgement.
   * @returns whether more may be published at once; if not, `await client.drained()` first, to keep the buffer small
   * @throws ManyhostError MANYHOST_INVALID_OPTION for a name or payload that is too long, MANYHOST_FEED_FULL,
   * MANYHOST_FEED_REFUSED, MANYHOST_FEED_CLOSED
   */
  publish(channel: string, payload: Uint8Array | string): boolean {
    this.#assertUsable()
    if (typeof payload !== 'string' && !(payload instanceof Uint8Array)) {
      throw createOptionError(
        `FeedClient: publish: the payload must be bytes or a text, got ${describe(payload)}`,
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
        `${this.#where}: bufferLimit is reached: ${this.#outbox.size} messages wait, ${this.#outbox.bytes} bytes`,
      )
    }
    this.#countDropped(dropped)
    return this.#outbox.bytes < HIGH_WATER_BYTES
  }

  /**
   * Publishes all payloads of the source, and reads the source no faster than they are sent, so that `bufferLimit` is not
   * reached.
   * @returns the number of messages
   * @throws ManyhostError as `publish` does; whatever the source throws
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

  /** Resolves when no message waits in the buffer. @throws ManyhostError MANYHOST_FEED_REFUSED, MANYHOST_FEED_CLOSED */
  async drained(): Promise<void> {
    await this.#waitUntil(() => this.#outbox.size === 0 && this.#link?.hasCapacity !== false)
  }

  /** Resolves when the system has taken all published messages. @throws ManyhostError as `drained` does */
  async flush(): Promise<void> {
    await this.#waitUntil(() => this.#outbox.size === 0 && this.#link?.pendingBytes === 0)
  }

  /**
   * Subscribes to channels, now and after each reconnect. Subscribing twice is the same as once.
   * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_FEED_REFUSED, MANYHOST_FEED_CLOSED
   */
  subscribe(...channels: readonly string[]): void {
    this.#assertUsable()
    for (const channel of channels) {
      const frame = this.#frameEncoder.encodeSubscribe(channel)
      if (this.#channels.has(channel)) continue
      this.#channels.add(channel)
      if (this.#link?.isOpen) this.#link.sendControl(frame)
    }
  }

  /** @throws ManyhostError as `subscribe` does */
  unsubscribe(...channels: readonly string[]): void {
    this.#assertUsable()
    for (const channel of channels) {
      if (!this.#channels.delete(channel)) continue
      if (this.#link?.isOpen) this.#link.sendControl(this.#frameEncoder.encodeUnsubscribe(channel))
    }
  }

  /** The next message. @throws ManyhostError MANYHOST_FEED_CLOSED after `close()`, MANYHOST_FEED_REFUSED */
  async read(): Promise<FeedMessage> {
    const message = this.#inbox.take() ?? (await this.#nextMessage())
    if (message) return message
    throw this.#createClosedError()
  }

  /** All messages until `close()`. Throws at a refusal. Several iterations share the messages. */
  [Symbol.asyncIterator](): AsyncIterator<FeedMessage, undefined> {
    let isOver = false
    // Written by hand: a generator costs three turns of the microtask queue for each message.
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
   * Sends the waiting messages, within `closeTimeout`, and closes the connection. Messages that could not be sent are
   * counted in `dropped`. Reads and iterations end at once. Idempotent.
   * @throws ManyhostError MANYHOST_FEED_REFUSED if the broker has refused, and no other method has thrown that
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const { closeTimeout } = this.#settings
    this.#inbox.end()
    const isDone = (): boolean => this.#state === 'refused' || this.#state === 'closed'
    const isSent = (): boolean => isDone() || this.#outbox.size === 0
    await resolveWithin(closeTimeout, this.#stateChanged.waitUntil(isSent))
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
    const longSettle = Math.max(settle, connectTimeout)
    const link: FeedLink = new FeedLink(
      { ...this.#settings, settle: this.#needsLongSettle ? longSettle : settle },
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
        onBrokerError: (message) =>
          this.#emitter.emit('error', createRefusedError(this.#where, message)),
        onDrain: () => this.#sendWaiting(),
        onEnd: (end) => this.#onLinkEnd(end),
      },
    )
    this.#link = link
  }

  /** Sends waiting messages, as long as the link takes more. */
  #sendWaiting(): void {
    const link = this.#link
    while (link?.hasCapacity) {
      const frame = this.#outbox.take()
      if (!frame) break
      link.sendMessage(frame)
    }
    this.#stateChanged.notify()
  }

  #onLinkEnd(end: FeedLinkEnd): void {
    this.#link = undefined
    const { brokerError, sentMessages, unacceptedFrames } = end
    const kind = brokerError === undefined ? 'temporary' : classifyBrokerError(brokerError)
    if (kind === 'unprocessed') {
      this.#needsLongSettle ||= end.wasAccepted
      const lost = sentMessages - unacceptedFrames.length
      this.#countDropped(lost + this.#outbox.putBack(unacceptedFrames))
    } else this.#countDropped(end.unsentMessages)
    if (brokerError !== undefined && kind === 'refused') {
      this.#refusal = createRefusedError(this.#where, brokerError)
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
    const retryIn = backoffDelay(this.#failures++, { min: retryMin, max: retryMax }, this.#random)
    this.#timer = after(retryIn, () => this.#connect())
    this.#setState('waiting')
    this.#emitter.emit('disconnected', { reason: brokerError ?? end.reason.message, retryIn })
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

  /** The messages that still wait will never be sent. */
  #dropWaiting(): void {
    this.#countDropped(this.#outbox.clear())
  }

  #countDropped(messages: number): void {
    if (messages === 0) return
    this.#dropped += messages
    this.#emitter.emit('dropped', { messages })
  }

  /** The broker's address and our ident, for error messages. */
  get #where(): string {
    const { ident, host, port, path } = this.#settings
    return `feed ${path ?? `${host.includes(':') ? `[${host}]` : host}:${port}`} as ${ident}`
  }
}

const END_RESULT = { done: true, value: undefined } as const

function toIteratorResult(value: FeedMessage | undefined): IteratorResult<FeedMessage, undefined> {
  return value ? { done: false, value } : END_RESULT
}

function createRefusedError(where: string, brokerError: string): ManyhostError {
  return new ManyhostError('MANYHOST_FEED_REFUSED', `${where}: the broker says: ${brokerError}`)
}

function createOptionError(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}
