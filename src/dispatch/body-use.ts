/**
 * Finds out whether a body was read before. A stream that was read to its end gives no chunk and no error, so it would be
 * sent as an empty body. Therefore it is checked before anything is sent.
 */
import { isErrored, Readable } from 'node:stream'

/** Iterators that a request has read from. They look the same before and after. */
const readIterators = new WeakSet<object>()

/** Why the body cannot be sent; undefined if it can. */
export function findBodyMisuse(source: object): string | undefined {
  if (readIterators.has(source)) return 'it is an iterator that another request has read'
  if (isNodeStream(source)) return findStreamMisuse(source)
  if (!('getReader' in source)) return undefined
  const stream = source as ReadableStream
  if (stream.locked) return 'it is a stream that is locked by another reader'
  if (isErrored(stream as unknown as Readable)) return 'it is a stream that failed'
  return Readable.isDisturbed(stream as unknown as Readable)
    ? 'it is a stream that was read already'
    : undefined
}

function findStreamMisuse(stream: Readable): string | undefined {
  if (stream.errored) return `it is a stream that failed: ${stream.errored.message}`
  if (stream.readableEnded) return 'it is a stream that was read to its end already'
  if (stream.destroyed) return 'it is a stream that was destroyed'
  return Readable.isDisturbed(stream) ? 'it is a stream that was read already' : undefined
}

function isNodeStream(source: object): source is Readable {
  return 'readableEnded' in source && 'destroyed' in source
}

/** Records that a one-shot iterator is read. A source that can be iterated again is not recorded. */
export function markIteratorRead(source: object, iterator: object): void {
  if (iterator === source) readIterators.add(source)
}
