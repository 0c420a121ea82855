/** Takes in an answer for the client: keeps chunks until somebody reads them, and holds the instance back meanwhile. */
import type { Duplex } from 'node:stream'
import type { Exchange, RawHeaders, ResponseSink } from '../dispatch/exchange.ts'

/** What steers an answer that is under way: an exchange of a service, or a request to the network. */
export interface ResponseControl {
  cancel(reason: Error): void
  pause(): void
  resume(): void
}

/** Bytes that may wait unread before the instance is asked to pause. */
const MAX_UNREAD_BYTES = 65_536

export interface ResponseConsumer {
  data(chunk: Buffer): void
  end(): void
  error(error: Error): void
}

/** Shared by all that have none yet: a request that waits is to cost little. */
const NO_CHUNKS: Buffer[] = []

export class ResponseReader implements ResponseSink {
  status = 0
  statusText = ''
  headers: RawHeaders = NO_CHUNKS
  trailers: RawHeaders | undefined
  /** The exchange, once it is known; undefined for a request to the network. */
  exchange: Exchange | undefined
  error: Error | undefined
  ended = false
  /** Whether all of the body follows the head at once. */
  whole = false
  chunks: Buffer[] = NO_CHUNKS
  control: ResponseControl | undefined
  #unreadBytes = 0
  #paused = false
  #consumer: ResponseConsumer | undefined
  /** Called once when nothing more will come. */
  onDone: (() => void) | undefined
  /**
   * Both until the head is there, and not longer: through them an answer under way would hold the promise of its
   * response, and the response could never be found abandoned.
   */
  #onHead: ((reader: ResponseReader) => void) | undefined
  #onError: ((error: Error) => void) | undefined

  constructor(onHead: (reader: ResponseReader) => void, onError: (error: Error) => void) {
    this.#onHead = onHead
    this.#onError = onError
  }

  /** Gives all that is there, and then all that comes, to `consumer`. */
  read(consumer: ResponseConsumer): void {
    const { chunks } = this
    this.chunks = NO_CHUNKS
    this.#unreadBytes = 0
    for (const chunk of chunks) consumer.data(chunk)
    if (this.error) consumer.error(this.error)
    else if (this.ended) consumer.end()
    else {
      this.#consumer = consumer
      this.resume()
    }
  }

  pause(): void {
    if (this.#paused || this.ended) return
    this.#paused = true
    this.control?.pause()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.control?.resume()
  }

  onInfo(): void {}

  onHead(status: number, headers: RawHeaders, text: string, whole: boolean): void {
    this.whole = whole
    this.status = status
    this.statusText = text
    this.headers = headers
    const answer = this.#onHead
    this.#onHead = undefined
    this.#onError = undefined
    answer?.(this)
  }

  onData(chunk: Buffer): void {
    if (this.#consumer) return this.#consumer.data(chunk)
    if (this.chunks === NO_CHUNKS) this.chunks = [chunk]
    else this.chunks.push(chunk)
    this.#unreadBytes += chunk.length
    if (this.#unreadBytes > MAX_UNREAD_BYTES) this.pause()
  }

  onEnd(trailers: RawHeaders): void {
    this.ended = true
    this.trailers = trailers
    this.onDone?.()
    this.#consumer?.end()
  }

  /** The client asks for no upgrades; a server that does one unasked is not understood. */
  onUpgrade(_status: number, _headers: RawHeaders, socket: Duplex): void {
    socket.destroy()
    this.onError(new Error('the server switched protocols unasked'))
  }

  onError(error: Error): void {
    this.ended = true
    this.error = error
    this.onDone?.()
    if (this.#onError) this.#onError(error)
    else this.#consumer?.error(error)
  }
}
