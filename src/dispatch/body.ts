/** What callers give as a body, brought to the three kinds that the data plane knows: text, bytes, or a `Replay`. */
import { ManyhostError } from '../errors.ts'
import { type BodySource, Replay } from './replay.ts'

/** A body: text, bytes, chunks, a form, or a function that gives a new one of these for each attempt. */
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

export interface BodyKeeping {
  /** Bytes of a body that are kept in memory for another attempt. */
  readonly replayLimit: number
  /** Whether another attempt may come to need it. */
  readonly keep: boolean
}

export interface PreparedBody {
  readonly body: string | Uint8Array | Replay | null
  /** The `Content-Type` that goes with it, where it says so itself. */
  readonly type: string | undefined
}

const NO_BODY: PreparedBody = { body: null, type: undefined }

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function prepareBody(body: unknown, { replayLimit, keep }: BodyKeeping): PreparedBody {
  if (body === null || body === undefined) return NO_BODY
  if (typeof body === 'string' || body instanceof Uint8Array) return { body, type: undefined }
  if (ArrayBuffer.isView(body)) {
    return { body: new Uint8Array(body.buffer, body.byteOffset, body.byteLength), type: undefined }
  }
  if (body instanceof ArrayBuffer) return { body: new Uint8Array(body), type: undefined }
  if (body instanceof URLSearchParams) {
    return { body: body.toString(), type: 'application/x-www-form-urlencoded;charset=UTF-8' }
  }
  if (typeof body === 'function') {
    return { body: new Replay(body as () => unknown, replayLimit, keep), type: undefined }
  }
  if (body instanceof Blob) {
    return {
      body: new Replay(() => body.stream(), replayLimit, keep),
      type: body.type || undefined,
    }
  }
  if (isFormData(body)) {
    // The platform's own encoder: it picks the boundary and quotes names and file names by the standard.
    const encoded = new Response(body as FormData)
    const type = encoded.headers.get('content-type') ?? undefined
    return { body: new Replay(encoded.body as unknown as BodySource, replayLimit, keep), type }
  }
  if (typeof body === 'object' && (Symbol.asyncIterator in body || Symbol.iterator in body)) {
    return { body: new Replay(body as BodySource, replayLimit, keep), type: undefined }
  }
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `body: a string, bytes, Blob, FormData, URLSearchParams, stream, (async) iterable or a function that gives one is allowed, got ${Object.prototype.toString.call(body)}`,
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
