/** Receives a response for the client. Keeps its chunks until they are read, and lets the instance pause meanwhile. */
import type { Duplex } from 'node:stream'
import type { Exchange, RawHeaders, ResponseSink } from '../dispatch/exchange.ts'

/** Controls a response that is under way: an exchange of a service, or a request to the network. */
export interface ResponseControl {
  cancel(reason: Error): void
  pause(): void
  resume(): void
}

/** Unread bytes from which on the instance is asked to pause. */
const MAX_UNREAD_BYTES = 65_536

export interface ResponseConsumer {
  data(chunk: Buffer): void
  end(): void
  error(error: Error): void
}

/** Shared by all responses without a chunk, so that a request that waits costs little memory. */
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
  /** Whether the whole body was there with the head. */
  whole = false
  chunks: Buffer[] = NO_CHUNKS
  control: ResponseControl | undefined
  #unreadBytes = 0
  #paused = false
  #consumer: ResponseConsumer | undefined
  /** Called once, when the response has ended. */
  onDone: (() => void) | undefined
  /**
   * Both are kept only until the head is there. Otherwise the response under way would hold its promise through them, and a
   * `Response` that the caller has dropped could never be garbage-collected, which cancels it.
   */
  #onHead: ((reader: ResponseReader) => void) | undefined
  #onError: ((error: Error) => void) | undefined

  constructor(onHead: (reader: ResponseReader) => void, onError: (error: Error) => void) {
    this.#onHead = onHead
    this.#onError = onError
  }

  /** Gives the chunks that are there, and then those that come, to `consumer`. */
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

  /** The client never asks for an upgrade, so a server that switches protocols breaks the protocol. */
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
