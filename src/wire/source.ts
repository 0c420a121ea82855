/** What may be sent: code as text, blobs as buffers in any nesting, or as streams. */
import { ManyhostError } from '../core/errors.ts'
import { repr } from './repr.ts'

/** CodeSource: text, its bytes, or several of them in turn. */
export type CodeSource = string | Uint8Array | Iterable<string> | AsyncIterable<string>
/** A blob: buffers, nested as deep as one likes; streams and generators are asked for more as it flows. */
export type BlobSource = Uint8Array | ArrayBuffer | Iterable<BlobSource> | AsyncIterable<BlobSource>

export async function* iterateCode(
  source: Iterable<string> | AsyncIterable<string>,
): AsyncGenerator<string> {
  for await (const one of source) yield one
}

export async function* iterateBuffers(source: BlobSource): AsyncGenerator<Uint8Array> {
  if (source instanceof Uint8Array) yield source
  else if (source instanceof ArrayBuffer) yield new Uint8Array(source)
  else if (
    typeof source === 'object' &&
    source !== null &&
    (Symbol.asyncIterator in source || Symbol.iterator in source)
  ) {
    for await (const one of source) yield* iterateBuffers(one)
  } else
    throw new ManyhostError('MANYHOST_WIRE_BLOB', `a blob is made of buffers, got ${typeof source}`)
}

/** One piece of code as text; what is no text is written as the value that it is. */
export function codeToText(code: unknown): string {
  if (typeof code === 'string') return code
  return code instanceof Uint8Array ? Buffer.from(code).toString() : repr(code)
}
