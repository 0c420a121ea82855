/** Who hears a channel, and what was said on it. */
import type { FeedMessage } from './inbox.ts'

/** What takes whole frames, several at a time where they came so. */
export interface Subscriber {
  send(frames: Buffer, messages: number): void
}

/** What takes messages one by one. */
export type Tap = (message: KeptMessage) => void

export interface KeptMessage extends FeedMessage {
  /** Grows by one with each message of the feed that is told to taps or kept. */
  readonly sequence: number
}

export class Channel {
  readonly name: string
  readonly subscribers = new Set<Subscriber>()
  readonly taps = new Set<Tap>()
  /** Oldest first. */
  readonly kept: KeptMessage[] = []
  keptBytes = 0
  /** The sequence of the last message that is no longer kept; 0: none was lost. */
  forgotten = 0

  constructor(name: string) {
    this.name = name
  }

  get isIdle(): boolean {
    return this.subscribers.size === 0 && this.taps.size === 0 && this.kept.length === 0
  }
}

export interface HistoryLimits {
  /** Messages of each channel. */
  readonly messages: number
  /** Bytes of each channel. */
  readonly bytes: number
}

/** Channels with a history but without anybody: beyond these, the longest unused one is forgotten. */
const MOST_KEPT = 1_000

export class Channels {
  #limits: HistoryLimits
  readonly #channels = new Map<string, Channel>()
  /** Those with a history, the longest unused first. */
  readonly #kept = new Set<Channel>()
  #sequence = 0
  /** The last sequence that went with a channel. */
  #forgotten = 0

  constructor(limits: HistoryLimits) {
    this.#limits = limits
  }

  get sequence(): number {
    return this.#sequence
  }

  /** Others from now on: what is kept beyond them is forgotten. */
  limit(limits: HistoryLimits): void {
    const wasOff = this.#limits.messages === 0
    this.#limits = limits
    if (wasOff && limits.messages > 0) {
      // What was said meanwhile is not even counted: whoever resumes from before has a gap.
      this.#forgotten = ++this.#sequence
      for (const channel of this.#channels.values()) channel.forgotten = this.#forgotten
    }
    for (const channel of this.#kept) this.#trim(channel)
  }

  get(name: string): Channel | undefined {
    return this.#channels.get(name)
  }

  /** The channel of that name, made if there is none. Who has no use for it any more calls `release`. */
  ensure(name: string): Channel {
    let channel = this.#channels.get(name)
    if (!channel) {
      channel = new Channel(name)
      channel.forgotten = this.#forgotten
      this.#channels.set(name, channel)
    }
    return channel
  }

  release(channel: Channel): void {
    if (channel.isIdle) this.#channels.delete(channel.name)
  }

  /** Whether messages must be taken one by one. */
  wantsEach(channel: Channel | undefined): boolean {
    return this.#limits.messages > 0 || (channel !== undefined && channel.taps.size > 0)
  }

  /** Tells taps of a message, and keeps it. */
  tell(name: string, ident: string, payload: Buffer): void {
    const { messages } = this.#limits
    const channel = messages > 0 ? this.ensure(name) : this.#channels.get(name)
    if (!channel) return
    // What is kept must not keep the much longer chunk that it came in.
    const bytes = messages > 0 ? Buffer.from(payload) : payload
    const message = { ident, channel: name, payload: bytes, sequence: ++this.#sequence }
    if (messages > 0) this.#keep(channel, message)
    for (const tap of [...channel.taps]) tap(message)
    this.release(channel)
  }

  #keep(channel: Channel, message: KeptMessage): void {
    channel.kept.push(message)
    channel.keptBytes += message.payload.length
    this.#kept.delete(channel)
    this.#kept.add(channel)
    this.#trim(channel)
    if (this.#kept.size <= MOST_KEPT) return
    const [oldest] = this.#kept
    if (oldest) this.#trim(oldest, 0)
  }

  /** Forgets the oldest messages of a channel; one without any is not among the kept ones. */
  #trim(channel: Channel, messages = this.#limits.messages): void {
    while (channel.kept.length > messages || channel.keptBytes > this.#limits.bytes) {
      const old = channel.kept.shift() as KeptMessage
      channel.keptBytes -= old.payload.length
      channel.forgotten = old.sequence
    }
    if (channel.kept.length > 0) return
    this.#kept.delete(channel)
    this.#forgotten = Math.max(this.#forgotten, channel.forgotten)
    this.release(channel)
  }

  /** What was said on these channels after `sequence`, in order; `isWhole` is false where some of it is forgotten. */
  since(
    names: readonly string[],
    sequence: number,
  ): { readonly messages: readonly KeptMessage[]; readonly isWhole: boolean } {
    const channels = names
      .map((name) => this.#channels.get(name))
      .filter((one) => one !== undefined)
    const messages = channels
      .flatMap(({ kept }) => kept.filter((one) => one.sequence > sequence))
      .sort((a, b) => a.sequence - b.sequence)
    const areHere = channels.length === names.length || this.#forgotten <= sequence
    return { messages, isWhole: areHere && channels.every((one) => one.forgotten <= sequence) }
  }
}
