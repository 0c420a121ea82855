/** Who hears a channel, and what was said on it. */
import type { FeedMessage } from './inbox.ts'

/** What takes whole frames, several at a time where they came so. */
export interface Subscriber {
  sendFrames(frames: Buffer, messages: number): void
}

/** What takes messages one by one. */
export type ChannelListener = (message: KeptMessage) => void

export interface KeptMessage extends FeedMessage {
  /** Grows by one with each message of the feed that is told to taps or kept. */
  readonly sequence: number
}

export class FeedChannel {
  readonly name: string
  readonly subscribers = new Set<Subscriber>()
  readonly listeners = new Set<ChannelListener>()
  /** Oldest first. */
  readonly kept: KeptMessage[] = []
  keptBytes = 0
  /** The sequence of the last message that is no longer kept; 0: none was lost. */
  lastForgottenSequence = 0

  constructor(name: string) {
    this.name = name
  }

  get isIdle(): boolean {
    return this.subscribers.size === 0 && this.listeners.size === 0 && this.kept.length === 0
  }
}

export interface HistoryLimits {
  /** Messages of each channel. */
  readonly maxMessages: number
  /** Bytes of each channel. */
  readonly maxBytes: number
}

/** FeedChannels with a history but without anybody: beyond these, the longest unused one is forgotten. */
const MAX_IDLE_HISTORIES = 1_000

export class FeedChannels {
  #limits: HistoryLimits
  readonly #channels = new Map<string, FeedChannel>()
  /** Those with a history, the longest unused first. */
  readonly #withHistory = new Set<FeedChannel>()
  #sequence = 0
  /** The last sequence that went with a channel. */
  #lastForgottenSequence = 0

  constructor(limits: HistoryLimits) {
    this.#limits = limits
  }

  get sequence(): number {
    return this.#sequence
  }

  /** Others from now on: what is kept beyond them is forgotten. */
  setLimits(limits: HistoryLimits): void {
    const wasOff = this.#limits.maxMessages === 0
    this.#limits = limits
    if (wasOff && limits.maxMessages > 0) {
      // What was said meanwhile is not even counted: whoever resumes from before has a gap.
      this.#lastForgottenSequence = ++this.#sequence
      for (const channel of this.#channels.values())
        channel.lastForgottenSequence = this.#lastForgottenSequence
    }
    for (const channel of this.#withHistory) this.#trimHistory(channel)
  }

  get(name: string): FeedChannel | undefined {
    return this.#channels.get(name)
  }

  /** The channel of that name, made if there is none. Who has no use for it any more calls `release`. */
  getOrCreate(name: string): FeedChannel {
    let channel = this.#channels.get(name)
    if (!channel) {
      channel = new FeedChannel(name)
      channel.lastForgottenSequence = this.#lastForgottenSequence
      this.#channels.set(name, channel)
    }
    return channel
  }

  removeIfIdle(channel: FeedChannel): void {
    if (channel.isIdle) this.#channels.delete(channel.name)
  }

  /** Whether messages must be taken one by one. */
  needsSingleMessages(channel: FeedChannel | undefined): boolean {
    return this.#limits.maxMessages > 0 || (channel !== undefined && channel.listeners.size > 0)
  }

  /** Tells taps of a message, and keeps it. */
  publishMessage(name: string, ident: string, payload: Buffer): void {
    const { maxMessages: messages } = this.#limits
    const channel = messages > 0 ? this.getOrCreate(name) : this.#channels.get(name)
    if (!channel) return
    // What is kept must not keep the much longer chunk that it came in.
    const bytes = messages > 0 ? Buffer.from(payload) : payload
    const message = { ident, channel: name, payload: bytes, sequence: ++this.#sequence }
    if (messages > 0) this.#keepMessage(channel, message)
    for (const tap of [...channel.listeners]) tap(message)
    this.removeIfIdle(channel)
  }

  #keepMessage(channel: FeedChannel, message: KeptMessage): void {
    channel.kept.push(message)
    channel.keptBytes += message.payload.length
    this.#withHistory.delete(channel)
    this.#withHistory.add(channel)
    this.#trimHistory(channel)
    if (this.#withHistory.size <= MAX_IDLE_HISTORIES) return
    const [oldest] = this.#withHistory
    if (oldest) this.#trimHistory(oldest, 0)
  }

  /** Forgets the oldest messages of a channel; one without any is not among the kept ones. */
  #trimHistory(channel: FeedChannel, messages = this.#limits.maxMessages): void {
    while (channel.kept.length > messages || channel.keptBytes > this.#limits.maxBytes) {
      const old = channel.kept.shift() as KeptMessage
      channel.keptBytes -= old.payload.length
      channel.lastForgottenSequence = old.sequence
    }
    if (channel.kept.length > 0) return
    this.#withHistory.delete(channel)
    this.#lastForgottenSequence = Math.max(
      this.#lastForgottenSequence,
      channel.lastForgottenSequence,
    )
    this.removeIfIdle(channel)
  }

  /** What was said on these channels after `sequence`, in order; `isWhole` is false where some of it is forgotten. */
  messagesSince(
    names: readonly string[],
    sequence: number,
  ): { readonly messages: readonly KeptMessage[]; readonly isWhole: boolean } {
    const channels = names
      .map((name) => this.#channels.get(name))
      .filter((one) => one !== undefined)
    const messages = channels
      .flatMap(({ kept }) => kept.filter((one) => one.sequence > sequence))
      .sort((a, b) => a.sequence - b.sequence)
    const areHere = channels.length === names.length || this.#lastForgottenSequence <= sequence
    return {
      messages,
      isWhole: areHere && channels.every((one) => one.lastForgottenSequence <= sequence),
    }
  }
}
