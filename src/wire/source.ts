/** Sources of what is sent: code as text; blobs as buffers, nested or not, or as streams. */
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import { repr } from './repr.ts'

/** Code: text, its bytes, or several texts, one after the other. */
export type CodeSource = string | Uint8Array | Iterable<string> | AsyncIterable<string>
/** A blob: buffers, nested to any depth. Streams and generators are read only as fast as the peer takes the bytes. */
export type BlobSource = Uint8Array | ArrayBuffer | Iterable<BlobSource> | AsyncIterable<BlobSource>

export async function* iterateCode(
  source: Iterable<string> | AsyncIterable<string>,
): AsyncGenerator<string> {
  for await (const text of source) yield text
}

export async function* iterateBuffers(source: BlobSource): AsyncGenerator<Uint8Array> {
  if (source instanceof Uint8Array) yield source
  else if (source instanceof ArrayBuffer) yield new Uint8Array(source)
  else if (
    typeof source === 'object' &&
    source !== null &&
    (Symbol.asyncIterator in source || Symbol.iterator in source)
  ) {
    for await (const part of source) yield* iterateBuffers(part)
  } else
    throw new ManyhostError(
      'MANYHOST_WIRE_BLOB',
      `a blob must consist of buffers, got ${describe(source)}`,
    )
}

/** Code as text. A value that is neither text nor bytes is written as a literal. */
export function codeToText(code: unknown): string {
  if (typeof code === 'string') return code
  return code instanceof Uint8Array ? Buffer.from(code).toString() : repr(code)
}
