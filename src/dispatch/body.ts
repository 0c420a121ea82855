/** Turns what callers give as a body into the three forms that the data plane knows: text, bytes, or a `Replay`. */
import { Readable } from 'node:stream'
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import { findBodyMisuse } from './body-use.ts'
import { type BodySource, Replay } from './replay.ts'

/** A body: text, bytes, chunks, a form, or a function that makes one of these for each attempt. */
export type Body =
  | string
  | ArrayBuffer
  | ArrayBufferView
  | Blob
  | FormData
  | URLSearchParams
  | ReadableStream
  | AsyncIterable<string | Uint8Array>
  | Iterable<string | Uint8Array>
  | (() =>
      | string
      | Uint8Array
      | BodySource
      | null
      | Promise<string | Uint8Array | BodySource | null>)
  | null
  | undefined

export interface BodyRetention {
  /** Bytes of a body that are kept in memory for another attempt. */
  readonly replayLimit: number
  /** Whether another attempt may need the body. */
  readonly keep: boolean
}

export interface PreparedBody {
  readonly body: string | Uint8Array | Replay | null
  /** The `Content-Type` that the body itself determines, if it does. */
  readonly contentType: string | undefined
  /** Bytes of the body, if they are known before it is read and undici would not find them out. */
  readonly length?: number | undefined
}

const NO_BODY: PreparedBody = { body: null, contentType: undefined }

/** @throws ManyhostError MANYHOST_INVALID_OPTION; MANYHOST_BODY_FAILED for a body that was read already */
export function prepareBody(body: unknown, { replayLimit, keep }: BodyRetention): PreparedBody {
  if (body === null || body === undefined) return NO_BODY
  if (typeof body === 'string' || body instanceof Uint8Array)
    return { body, contentType: undefined }
  if (ArrayBuffer.isView(body)) {
    return {
      body: new Uint8Array(body.buffer, body.byteOffset, body.byteLength),
      contentType: undefined,
    }
  }
  if (body instanceof ArrayBuffer) return { body: new Uint8Array(body), contentType: undefined }
  if (body instanceof URLSearchParams) {
    return { body: body.toString(), contentType: 'application/x-www-form-urlencoded;charset=UTF-8' }
  }
  if (typeof body === 'function') {
    return { body: new Replay(body as () => unknown, replayLimit, keep), contentType: undefined }
  }
  if (body instanceof Blob) {
    return {
      body: new Replay(() => body.stream(), replayLimit, keep),
      contentType: body.type || undefined,
      length: body.size,
    }
  }
  if (isFormData(body)) {
    // The platform's own encoder: it picks the boundary and quotes names and file names by the standard.
    const encoded = new Response(body as FormData)
    const type = encoded.headers.get('content-type') ?? undefined
    return {
      body: new Replay(encoded.body as unknown as BodySource, replayLimit, keep),
      contentType: type,
    }
  }
  if (typeof body === 'object') {
    const source = isLegacyStream(body) ? new Readable().wrap(body) : body
    if (Symbol.asyncIterator in source || Symbol.iterator in source) {
      const why = findBodyMisuse(source)
      if (why !== undefined) throw bodyFailed(why)
      return { body: new Replay(source as BodySource, replayLimit, keep), contentType: undefined }
    }
  }
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `body: a string, bytes, Blob, FormData, URLSearchParams, stream, (async) iterable or a function that makes one is allowed, got ${describe(body)}`,
  )
}

function bodyFailed(why: string): ManyhostError {
  return new ManyhostError(
    'MANYHOST_BODY_FAILED',
    `the request's body cannot be sent: ${why}; give a new body, or a function that makes one`,
  )
}

/** Whether it is a stream of Node's first generation, without an iterator: `form-data` makes such streams. */
function isLegacyStream(body: object): body is NodeJS.ReadableStream {
  return (
    !(Symbol.asyncIterator in body) &&
    typeof Reflect.get(body, 'pipe') === 'function' &&
    typeof Reflect.get(body, 'on') === 'function' &&
    Reflect.get(body, 'readable') !== false
  )
}

function isFormData(body: unknown): boolean {
  return (
    body instanceof FormData ||
    (typeof body === 'object' &&
      body !== null &&
      Reflect.get(body, Symbol.toStringTag) === 'FormData')
  )
}
