/** What a client says, as frames of its one ident. */

import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import {
  FrameError,
  publishFrame,
  publishPrefix,
  subscribeFrame,
  unsubscribeFrame,
} from './frame.ts'

/** Prefixes of channels that are kept encoded. */
const MAX_PREFIXES = 1_000

/** Each throws ManyhostError MANYHOST_INVALID_OPTION for what does not fit into a frame. */
export class FrameEncoder {
  readonly #ident: string
  readonly #prefixes = new Map<string, Buffer>()

  constructor(ident: string) {
    this.#ident = ident
  }

  encodePublish(channel: string, payload: Uint8Array | string): Buffer {
    return withOptionErrors(() => publishFrame(this.#getPrefix(channel), payload))
  }

  encodeSubscribe(channel: string): Buffer {
    return withOptionErrors(() => subscribeFrame(this.#ident, checkChannel(channel)))
  }

  encodeUnsubscribe(channel: string): Buffer {
    return withOptionErrors(() => unsubscribeFrame(this.#ident, checkChannel(channel)))
  }

  #getPrefix(channel: string): Buffer {
    let prefix = this.#prefixes.get(channel)
    if (!prefix) {
      prefix = publishPrefix(this.#ident, checkChannel(channel))
      if (this.#prefixes.size >= MAX_PREFIXES) this.#prefixes.clear()
      this.#prefixes.set(channel, prefix)
    }
    return prefix
  }
}

function withOptionErrors(make: () => Buffer): Buffer {
  try {
    return make()
  } catch (error) {
    if (!(error instanceof FrameError)) throw error
    throw new ManyhostError('MANYHOST_INVALID_OPTION', `FeedClient: ${error.message}`)
  }
}

/** Channels may be empty or long in the protocol; but not longer than a message can name. */
function checkChannel(channel: string): string {
  if (typeof channel !== 'string') {
    throw new FrameError(`a channel is a text, got ${describe(channel)}`)
  }
  if (Buffer.byteLength(channel) > 255) throw new FrameError('a channel has 255 bytes at most')
  return channel
}
