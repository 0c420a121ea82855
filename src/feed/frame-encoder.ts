/** Encodes what one client sends. The prefix of each channel's messages is encoded once. */
import {
  assertChannelName,
  publishFrame,
  publishPrefix,
  subscribeFrame,
  toOptionError,
  unsubscribeFrame,
} from './frame.ts'

/** At most this many prefixes are kept. */
const MAX_PREFIXES = 1_000

/** Each method throws ManyhostError MANYHOST_INVALID_OPTION for a value that does not fit into a frame. */
export class FrameEncoder {
  readonly #ident: string
  readonly #prefixes = new Map<string, Buffer>()

  constructor(ident: string) {
    this.#ident = ident
  }

  encodePublish(channel: string, payload: Uint8Array | string): Buffer {
    try {
      return publishFrame(this.#getPrefix(channel), payload)
    } catch (error) {
      throw toOptionError('FeedClient', error)
    }
  }

  encodeSubscribe(channel: string): Buffer {
    return this.#encodeRequest(subscribeFrame, channel)
  }

  encodeUnsubscribe(channel: string): Buffer {
    return this.#encodeRequest(unsubscribeFrame, channel)
  }

  #encodeRequest(encode: typeof subscribeFrame, channel: string): Buffer {
    try {
      assertChannelName(channel)
      return encode(this.#ident, channel)
    } catch (error) {
      throw toOptionError('FeedClient', error)
    }
  }

  #getPrefix(channel: string): Buffer {
    let prefix = this.#prefixes.get(channel)
    if (!prefix) {
      assertChannelName(channel)
      prefix = publishPrefix(this.#ident, channel)
      if (this.#prefixes.size >= MAX_PREFIXES) this.#prefixes.clear()
      this.#prefixes.set(channel, prefix)
    }
    return prefix
  }
}
