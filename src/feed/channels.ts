/** Channels: their subscribers, their listeners in this process, and their history. */
import type { FeedMessage } from './inbox.ts'

/** Gets whole frames, several at once if they arrived together. */
export interface Subscriber {
  sendFrames(frames: Buffer, messages: number): void
}

/** Gets messages one by one. */
export type ChannelListener = (message: KeptMessage) => void

export interface KeptMessage extends FeedMessage {
  /** Number of the message: grows by one with each message of the feed that is kept, or that a listener gets. */
  readonly sequence: number
}

export class FeedChannel {
  readonly name: string
  readonly subscribers = new Set<Subscriber>()
  readonly listeners = new Set<ChannelListener>()
  /** Oldest first. */
  readonly kept: KeptMessage[] = []
  keptBytes = 0
  /** The sequence of the last message that is no longer kept; 0 if every message is kept. */
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

/** At most this many channels have a history; beyond that, the history of the one that was used longest ago is dropped. */
const MAX_HISTORIES = 1_000

export class FeedChannels {
  #limits: HistoryLimits
  readonly #channels = new Map<string, FeedChannel>()
  /** Channels with a history, the one that was used longest ago first. */
  readonly #withHistory = new Set<FeedChannel>()
  #sequence = 0
  /** The last sequence whose message is no longer kept, in any channel. */
  #lastForgottenSequence = 0

  constructor(limits: HistoryLimits) {
    this.#limits = limits
  }

  get sequence(): number {
    return this.#sequence
  }

  /** Replaces the limits. Kept messages beyond them are dropped. */
  setLimits(limits: HistoryLimits): void {
    const wasOff = this.#limits.maxMessages === 0
    this.#limits = limits
    if (wasOff && limits.maxMessages > 0) {
      // Messages were not counted while the history was off: a reader that resumes from before has a gap.
      this.#lastForgottenSequence = ++this.#sequence
      for (const channel of this.#channels.values())
        channel.lastForgottenSequence = this.#lastForgottenSequence
    }
    for (const channel of this.#withHistory) this.#trimHistory(channel)
  }

  get(name: string): FeedChannel | undefined {
    return this.#channels.get(name)
  }

  /** Callers call `removeIfIdle` when they do not need the channel any more. */
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

  /** Whether the messages of a channel must be passed to `publishMessage`, one by one. */
  needsSingleMessages(channel: FeedChannel | undefined): boolean {
    return this.#limits.maxMessages > 0 || (channel !== undefined && channel.listeners.size > 0)
  }

  /** Passes a message to the listeners of the channel, and keeps it if there is a history. */
  publishMessage(name: string, ident: string, payload: Buffer): void {
    const isKept = this.#limits.maxMessages > 0
    const channel = isKept ? this.getOrCreate(name) : this.#channels.get(name)
    if (!channel) return
    // A kept payload is copied: a view would keep the much longer received chunk in memory.
    const bytes = isKept ? Buffer.from(payload) : payload
    const message = { ident, channel: name, payload: bytes, sequence: ++this.#sequence }
    if (isKept) this.#keepMessage(channel, message)
    for (const listener of [...channel.listeners]) listener(message)
    this.removeIfIdle(channel)
  }

  #keepMessage(channel: FeedChannel, message: KeptMessage): void {
    channel.kept.push(message)
    channel.keptBytes += message.payload.length
    this.#withHistory.delete(channel)
    this.#withHistory.add(channel)
    this.#trimHistory(channel)
    if (this.#withHistory.size <= MAX_HISTORIES) return
    const [oldest] = this.#withHistory
    if (oldest) this.#trimHistory(oldest, 0)
  }

  /** Drops the oldest messages of a channel, down to the limits. A channel without messages has no history. */
  #trimHistory(channel: FeedChannel, maxMessages = this.#limits.maxMessages): void {
    while (channel.kept.length > maxMessages || channel.keptBytes > this.#limits.maxBytes) {
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

  /** The messages of these channels after `sequence`, in order. `isWhole` is false if some of them are no longer kept. */
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
    const noneRemoved = channels.length === names.length || this.#lastForgottenSequence <= sequence
    return {
      messages,
      isWhole: noneRemoved && channels.every((one) => one.lastForgottenSequence <= sequence),
    }
  }
}
