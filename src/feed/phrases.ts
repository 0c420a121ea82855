/** What a client says, as frames of its one ident. */
import { ManyhostError } from '../core/errors.ts'
import { show } from '../core/options.ts'
import {
  FrameError,
  publishFrame,
  publishPrefix,
  subscribeFrame,
  unsubscribeFrame,
} from './frame.ts'

/** Prefixes of channels that are kept encoded. */
const MOST_PREFIXES = 1_000

/** Each throws ManyhostError MANYHOST_INVALID_OPTION for what does not fit into a frame. */
export class Phrases {
  readonly #ident: string
  readonly #prefixes = new Map<string, Buffer>()

  constructor(ident: string) {
    this.#ident = ident
  }

  publish(channel: string, payload: Uint8Array | string): Buffer {
    return encoded(() => publishFrame(this.#prefix(channel), payload))
  }

  subscribe(channel: string): Buffer {
    return encoded(() => subscribeFrame(this.#ident, named(channel)))
  }

  unsubscribe(channel: string): Buffer {
    return encoded(() => unsubscribeFrame(this.#ident, named(channel)))
  }

  #prefix(channel: string): Buffer {
    let prefix = this.#prefixes.get(channel)
    if (!prefix) {
      prefix = publishPrefix(this.#ident, named(channel))
      if (this.#prefixes.size >= MOST_PREFIXES) this.#prefixes.clear()
      this.#prefixes.set(channel, prefix)
    }
    return prefix
  }
}

function encoded(make: () => Buffer): Buffer {
  try {
    return make()
  } catch (error) {
    if (!(error instanceof FrameError)) throw error
    throw new ManyhostError('MANYHOST_INVALID_OPTION', `FeedClient: ${error.message}`)
  }
}

/** Channels may be empty or long in the protocol; but not longer than a message can name. */
function named(channel: string): string {
  if (typeof channel !== 'string') {
    throw new FrameError(`a channel is a text, got ${show(channel)}`)
  }
  if (Buffer.byteLength(channel) > 255) throw new FrameError('a channel has 255 bytes at most')
  return channel
}
