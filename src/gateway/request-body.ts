/** The body of a request: limited in size, held to a minimum rate, and read no faster than it is consumed. */
import type { IncomingMessage } from 'node:http'
import { ManyhostError } from '../core/errors.ts'
import type { MinimumRate } from './minimum-rate.ts'

/** A body with a declared length up to this is read whole before it is sent on, so that no slow client holds a slot. */
export const MAX_WHOLE_BODY = 65_536

/** Bytes that may be buffered ahead of the reader. */
const MAX_BUFFERED = 65_536

/** Bytes of the body; Infinity if only its end tells the length (RFC 9112 section 6.3). */
export function declaredLength(request: IncomingMessage): number {
  const { headers } = request
  const length = headers['content-length']
  if (length !== undefined) return Number(length)
  return headers['transfer-encoding'] !== undefined || isOpenStream(request) ? Infinity : 0
}

/** HTTP/2 has no transfer coding: a stream that is still open has a body of unknown length. */
function isOpenStream(request: IncomingMessage): boolean {
  if (request.httpVersionMajor !== 2) return false
  const { stream } = request as { stream?: { endAfterHeaders?: boolean } }
  return stream?.endAfterHeaders === false
}

interface PendingRead {
  resolve(result: IteratorResult<Buffer>): void
  reject(error: Error): void
}

export interface RequestBodyOptions {
  /** Maximum bytes of the body. */
  readonly limit: number
  readonly minimumRate: MinimumRate
  /** Called when the body is first read. */
  readonly begin: () => void
}

/**
 * The chunks of a body, for one reader at a time. Unlike the iterator of Node's streams, it keeps the connection open on a
 * failure, so that the client can get a response.
 */
export class RequestBody implements AsyncIterableIterator<Buffer> {
  /** Bytes so far. */
  received = 0
  readonly #request: IncomingMessage
  readonly #options: RequestBodyOptions
  readonly #chunks: Buffer[] = []
  #bufferedBytes = 0
  #pendingRead: PendingRead | undefined
  #state: 'new' | 'open' | 'ended' | 'failed' = 'new'
  #error: Error | undefined

  constructor(request: IncomingMessage, options: RequestBodyOptions) {
    this.#request = request
    this.#options = options
    // The body may fail before it is read.
    request.on('error', this.fail)
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  /** Whether the reader waits for the client. */
  get isAwaited(): boolean {
    return this.#pendingRead !== undefined
  }

  next(): Promise<IteratorResult<Buffer>> {
    if (this.#state === 'new') this.#open()
    const chunk = this.#chunks.shift()
    if (chunk) {
      this.#bufferedBytes -= chunk.length
      if (this.#bufferedBytes < MAX_BUFFERED) this.#request.resume()
      return Promise.resolve({ done: false, value: chunk })
    }
    if (this.#error) return Promise.reject(this.#error)
    if (this.#state !== 'open') return Promise.resolve(END)
    return new Promise((resolve, reject) => {
      this.#pendingRead = { resolve, reject }
    })
  }

  #open(): void {
    const request = this.#request
    this.#state = 'open'
    if (request.destroyed && !request.readableEnded) return this.fail(clientGoneError())
    this.#options.begin()
    this.#options.minimumRate.add(this)
    request.on('data', this.#onData)
    request.on('end', this.#onEnd)
    request.on('close', this.#onClose)
  }

  readonly #onData = (chunk: Buffer): void => {
    const { limit } = this.#options
    this.received += chunk.length
    if (this.received > limit) return this.fail(bodyTooLargeError(limit))
    if (this.#pendingRead)
      return this.#settle((reader) => reader.resolve({ done: false, value: chunk }))
    this.#chunks.push(chunk)
    this.#bufferedBytes += chunk.length
    if (this.#bufferedBytes >= MAX_BUFFERED) this.#request.pause()
  }

  readonly #onEnd = (): void => {
    this.#stop('ended')
    this.#settle((reader) => reader.resolve(END))
  }

  readonly #onClose = (): void => this.fail(clientGoneError())

  /** Stops reading; the reader gets the error. */
  readonly fail = (error: Error): void => {
    if (this.#state !== 'open' && this.#state !== 'new') return
    this.#error = error
    this.#stop('failed')
    this.#chunks.length = 0
    this.#settle((reader) => reader.reject(error))
    // The rest is discarded, so that the connection can be ended in order.
    this.#request.resume()
  }

  /** The rest is not needed. */
  destroy(): void {
    this.fail(clientGoneError())
  }

  #settle(how: (reader: PendingRead) => void): void {
    const reader = this.#pendingRead
    this.#pendingRead = undefined
    if (reader) how(reader)
  }

  #stop(state: 'ended' | 'failed'): void {
    const request = this.#request
    this.#state = state
    this.#options.minimumRate.remove(this)
    request.off('data', this.#onData)
    request.off('end', this.#onEnd)
    request.off('close', this.#onClose)
    request.off('error', this.fail)
    if (request.httpVersionMajor === 2) request.on('error', () => undefined)
  }
}

const END: IteratorResult<Buffer> = { done: true, value: undefined }

/** A whole small body. */
export async function readWholeBody(body: RequestBody): Promise<Buffer> {
  const first = await body.next()
  if (first.done) return Buffer.alloc(0)
  const second = await body.next()
  if (second.done) return first.value
  const parts = [first.value, second.value]
  for await (const chunk of body) parts.push(chunk)
  return Buffer.concat(parts)
}

function clientGoneError(): ManyhostError {
  return new ManyhostError('MANYHOST_ABORTED', 'the client went away')
}

export function bodyTooLargeError(limit: number): ManyhostError {
  return new ManyhostError(
    'MANYHOST_BODY_TOO_LARGE',
    `the body of the request is larger than ${limit} bytes (bodySize)`,
  )
}
