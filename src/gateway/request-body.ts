/** A client's body on its way in: bounded in size, held to a least pace, and read no faster than it is wanted. */
import type { IncomingMessage } from 'node:http'
import { ManyhostError } from '../core/errors.ts'
import type { MinimumRate } from './minimum-rate.ts'

/** A body of known length up to this is taken in whole before an instance is asked: no slow client holds a place. */
export const MAX_WHOLE_BODY = 65_536

/** Bytes that may come ahead of their reader. */
const MAX_BUFFERED = 65_536

/** Bytes of a request's body; Infinity where only its end will tell. RFC 9112 section 6.3. */
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
  /** Bytes that it may have. */
  readonly limit: number
  readonly minimumRate: MinimumRate
  /** Called when the body is wanted. */
  readonly begin: () => void
}

/**
 * The chunks of a body, one reader at a time. Unlike the iterator of Node's streams it leaves the connection alone
 * when something is wrong, so that the client can be told.
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

  constructor(request: IncomingMessage, parts: RequestBodyOptions) {
    this.#request = request
    this.#options = parts
    // What is wrong with it may come to light before it is wanted.
    request.on('error', this.fail)
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  /** Whether somebody waits for the client. */
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

  /** Nothing more of it is read: its reader hears why. */
  readonly fail = (error: Error): void => {
    if (this.#state !== 'open' && this.#state !== 'new') return
    this.#error = error
    this.#stop('failed')
    this.#chunks.length = 0
    this.#settle((reader) => reader.reject(error))
    // What is left of it is thrown away, so that the connection can be ended in order.
    this.#request.resume()
  }

  /** Nobody wants the rest. */
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
export async function readWholeBody(inflow: RequestBody): Promise<Buffer> {
  const first = await inflow.next()
  if (first.done) return Buffer.alloc(0)
  const second = await inflow.next()
  if (second.done) return first.value
  const parts = [first.value, second.value]
  for await (const chunk of inflow) parts.push(chunk)
  return Buffer.concat(parts)
}

function clientGoneError(): ManyhostError {
  return new ManyhostError('MANYHOST_ABORTED', 'the client went away')
}

export function bodyTooLargeError(limit: number): ManyhostError {
  return new ManyhostError(
    'MANYHOST_BODY_TOO_LARGE',
    `the request's body is larger than ${limit} bytes (bodySize)`,
  )
}
