/** The response of a request: the commonly used part of the web's `Response`, without what makes that slow. */
import { Readable } from 'node:stream'
import { type AttemptReport, ManyhostError } from '../core/errors.ts'
import { rawHeader, rawPairs } from '../dispatch/raw-headers.ts'
import type { ResponseReader } from './response-reader.ts'

const { isDisturbed } = Readable

/** The course of one request. Durations in milliseconds. */
export interface Timing {
  /** Time in the queue, over all attempts. */
  readonly queued: number
  /** Time from the call to the head of the response. */
  readonly firstByte: number
  /** The attempts that failed, then the one that was answered. */
  readonly attempts: readonly AttemptReport[]
  /** Id of the instance that answered. */
  readonly instance: string
}

/** Cancels responses that were dropped unread. Each of them would hold a slot of its instance for ever. */
const abandoned = new FinalizationRegistry<ResponseReader>((reader) => {
  if (!reader.ended) {
    reader.control?.cancel(
      new ManyhostError('MANYHOST_ABORTED', 'the response was dropped without being read'),
    )
  }
})

export class Response {
  readonly url: string
  readonly redirected: boolean
  readonly #reader: ResponseReader
  #headers: Headers | undefined
  #used = false
  #stream: ReadableStream<Uint8Array> | null | undefined

  constructor(reader: ResponseReader, url: string, redirected: boolean) {
    this.#reader = reader
    this.url = url
    this.redirected = redirected
    if (!reader.whole) abandoned.register(this, reader, this)
  }

  get status(): number {
    return this.#reader.status
  }

  get statusText(): string {
    return this.#reader.statusText
  }

  /** Whether the status is 200 to 299. */
  get ok(): boolean {
    return this.status >= 200 && this.status < 300
  }

  get headers(): Headers {
    if (!this.#headers) {
      this.#headers = new Headers()
      for (const [name, value] of rawPairs(this.#reader.headers)) this.#headers.append(name, value)
    }
    return this.#headers
  }

  /** The trailers: header fields after the body. Undefined until the body has ended. */
  get trailers(): Headers | undefined {
    const { trailers } = this.#reader
    return trailers && new Headers(rawPairs(trailers))
  }

  /** Names and values as they were sent, with their order, case and repetitions. */
  get rawHeaders(): [string, string][] {
    return rawPairs(this.#reader.headers)
  }

  /** The course of the request; undefined if it went to the network. */
  get timing(): Timing | undefined {
    const { exchange } = this.#reader
    if (!exchange) return undefined
    const { queued, startedAt, headAt, reports = [], attempts, instance } = exchange
    const firstByte = headAt - startedAt
    const before = reports.reduce((sum, report) => sum + report.duration, 0)
    const answered = { attempt: attempts, instance, duration: firstByte - queued - before }
    return { queued, firstByte, instance, attempts: [...reports, answered] }
  }

  get bodyUsed(): boolean {
    if (this.#used) return true
    const stream = this.#stream
    return stream ? stream.locked || isDisturbed(stream as unknown as Readable) : false
  }

  /** The body as a web stream; null if HTTP allows no body for the status. */
  get body(): ReadableStream<Uint8Array> | null {
    if (this.#stream === undefined) {
      const none = this.status === 204 || this.status === 304
      if (this.#used && !none) return createUsedStream()
      this.#stream = none ? null : createBodyStream(this.#reader)
      if (this.#stream) {
        // The stream may be kept longer than this object.
        abandoned.unregister(this)
        if (!this.#reader.whole) abandoned.register(this.#stream, this.#reader, this.#reader)
      }
    }
    return this.#stream
  }

  async text(): Promise<string> {
    return decodeBodyText(await this.#readBytes())
  }

  // biome-ignore lint/suspicious/noExplicitAny: as the web's Response has it
  async json(): Promise<any> {
    const text = decodeBodyText(await this.#readBytes())
    return JSON.parse(text)
  }

  async bytes(): Promise<Uint8Array> {
    const { buffer, byteOffset, byteLength } = await this.#readBytes()
    return new Uint8Array(buffer, byteOffset, byteLength)
  }

  async arrayBuffer(): Promise<ArrayBuffer> {
    const bytes = await this.#readBytes()
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer
  }

  async blob(): Promise<Blob> {
    const type = this.headers.get('content-type') ?? ''
    return new Blob([await this.arrayBuffer()], { type })
  }

  async formData(): Promise<FormData> {
    const bytes = await this.arrayBuffer()
    const type = this.headers.get('content-type') ?? ''
    return new globalThis.Response(bytes, { headers: { 'content-type': type } }).formData()
  }

  /**
   * A second response with the same body. What one of them has read and the other has not is kept in memory.
   * @throws ManyhostError MANYHOST_BODY_USED
   */
  clone(): Response {
    if (this.bodyUsed) throw bodyUsedError()
    const { body } = this
    const copy = new Response(this.#reader, this.url, this.redirected)
    // Dropping one of them must not cancel the response, as the other one may still be read.
    abandoned.unregister(copy)
    copy.#stream = null
    if (body) {
      const [mine, theirs] = body.tee()
      this.#stream = mine
      copy.#stream = theirs
    }
    return copy
  }

  /**
   * Throws for a status of 400 or above; otherwise returns this response.
   * @throws ManyhostError MANYHOST_BAD_STATUS
   */
  raiseForStatus(): this {
    if (this.status < 400) return this
    throw new ManyhostError(
      'MANYHOST_BAD_STATUS',
      `${this.url} answered ${this.status} ${this.statusText}`.trimEnd(),
      { status: this.status, retryable: this.status >= 500 || this.status === 429 },
    )
  }

  /** The whole body, once. */
  #readBytes(): Promise<Buffer> {
    if (this.bodyUsed) return Promise.reject(bodyUsedError())
    this.#used = true
    const reader = this.#reader
    if (this.#stream) return collectStream(this.#stream)
    if (!reader.whole) abandoned.unregister(this)
    if (reader.ended && !reader.error) {
      const { chunks } = reader
      reader.chunks = []
      return Promise.resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks))
    }
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = []
      reader.read({
        data: (chunk) => void chunks.push(chunk),
        end: () => resolve(Buffer.concat(chunks)),
        error: reject,
      })
    })
  }

  /** The value of a header field, without building `headers`. @internal */
  rawHeader(name: string): string | undefined {
    return rawHeader(this.#reader.headers, name)
  }
}

function bodyUsedError(): ManyhostError {
  return new ManyhostError('MANYHOST_BODY_USED', 'the body of this response was read already')
}

function decodeBodyText(bytes: Buffer): string {
  const hasMark = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf
  return bytes.toString('utf8', hasMark ? 3 : 0)
}

/** Bytes in the stream from which on the instance is asked to pause. */
const MAX_STREAM_BYTES = 65_536

function createBodyStream(reader: ResponseReader): ReadableStream<Uint8Array> {
  let started = false
  return new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        if (started) return reader.resume()
        started = true
        // From here on the response under way holds the stream in memory, and not the other way round.
        abandoned.unregister(reader)
        reader.read({
          data: (chunk) => {
            controller.enqueue(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength))
            if ((controller.desiredSize ?? 0) < -MAX_STREAM_BYTES) reader.pause()
          },
          end: () => controller.close(),
          error: (error) => controller.error(error),
        })
      },
      cancel(reason) {
        abandoned.unregister(reader)
        if (reader.ended) return
        const text = 'the response body was cancelled'
        reader.control?.cancel(new ManyhostError('MANYHOST_ABORTED', text, { cause: reason }))
      },
    },
    // With 0 nothing is pulled before the stream is read, so that an unread body can be recognized.
    { highWaterMark: 0, size: (chunk) => chunk.byteLength },
  )
}

/** The value of `body` after the body was read by another method: a stream that is closed and empty. */
function createUsedStream(): ReadableStream<Uint8Array> {
  const stream = new ReadableStream<Uint8Array>()
  void stream.cancel()
  return stream
}

async function collectStream(stream: ReadableStream<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of stream as unknown as AsyncIterable<Uint8Array>) chunks.push(chunk)
  return Buffer.concat(chunks)
}
