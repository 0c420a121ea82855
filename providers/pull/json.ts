/** JSON from outside: how large and how deep it may be, and the refusals of the API, in the form of its answers. */
import type { IncomingMessage } from 'node:http'

/** A member of `errors` in an answer. The envelope is that of TopChef, whose API this is. */
export interface ReplyError {
  readonly title: string
  readonly detail: string
  readonly status_code: number
  /** JSON Pointer to the value that is wrong, if the error is about one value. */
  readonly source?: { readonly pointer: string }
}

/** A request is refused. Has all errors that were found in it. */
export class Refusal extends Error {
  readonly faults: readonly ReplyError[]
  readonly headers: Readonly<Record<string, string>>

  constructor(faults: readonly ReplyError[], headers: Readonly<Record<string, string>> = {}) {
    super(faults.map(({ title, detail }) => `${title}: ${detail}`).join('; '))
    this.name = 'Refusal'
    this.faults = faults
    this.headers = headers
  }

  /** The status of all errors. If they differ: 400 when all are errors of the client, else 500. */
  get status(): number {
    const [first] = this.faults
    const status = first?.status_code ?? 500
    if (this.faults.every(({ status_code }) => status_code === status)) return status
    return this.faults.every(({ status_code }) => status_code < 500) ? 400 : 500
  }
}

export function createRefusal(
  status_code: number,
  title: string,
  detail: string,
  headers?: Readonly<Record<string, string>>,
): Refusal {
  return new Refusal([{ title, detail, status_code }], headers)
}

/** Levels of JSON from outside: far more than people write, far fewer than would overflow the stack. */
const MAX_DEPTH = 64
/** Values in one JSON text. It bounds the work of code that visits each value, such as a schema. */
const MAX_VALUES = 100_000

export interface ParsedJson {
  readonly value: unknown
  /** Estimated number of values, which is what a check of the JSON costs. */
  readonly count: number
}

/** @throws Refusal 400 */
export function parseJson(text: string): ParsedJson {
  const { depth, count } = measureJson(text)
  if (depth > MAX_DEPTH)
    throw createRefusal(400, 'JSON Too Deep', `JSON is at most ${MAX_DEPTH} levels deep`)
  if (count > MAX_VALUES)
    throw createRefusal(400, 'JSON Too Large', `JSON has at most ${MAX_VALUES} values`)
  try {
    return { value: JSON.parse(text), count }
  } catch {
    throw createNotJson()
  }
}

/** The message of the original, with its spelling mistake, because clients may compare it. */
export function createNotJson(): Refusal {
  const detail =
    'Could not undertand input. Either it is not JSON, or the type was not specified using the Content-Type header'
  return createRefusal(400, 'Request Not JSON', detail)
}

/** Measures JSON before it is parsed, because parsing, checking and printing visit every value and every level. */
function measureJson(text: string): { depth: number; count: number } {
  let [depth, maxDepth, count, isQuoted] = [0, 0, 1, false]
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (isQuoted) {
      if (code === 0x5c) i++
      else if (code === 0x22) isQuoted = false
    } else if (code === 0x22) isQuoted = true
    else if (code === 0x5b || code === 0x7b) {
      count++
      if (++depth > maxDepth) maxDepth = depth
    } else if (code === 0x5d || code === 0x7d) depth--
    else if (code === 0x2c) count++
  }
  return { depth: maxDepth, count }
}

/** Bytes beyond the limit that are read and dropped, so that a client that is still sending gets the answer. */
const MAX_DROPPED_BYTES = 16_777_216

/** Resolves with the body as text, of at most `limit` bytes. @throws Refusal 413, 400 */
export async function readBody(request: IncomingMessage, limit: number): Promise<string> {
  const tooLarge = (): Refusal =>
    createRefusal(413, 'Request Too Large', `a body has at most ${limit} bytes`)
  if (Number(request.headers['content-length'] ?? 0) > limit + MAX_DROPPED_BYTES) throw tooLarge()
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > limit + MAX_DROPPED_BYTES) throw tooLarge()
    if (size <= limit) chunks.push(chunk)
    else chunks.length = 0
  }
  if (size > limit) throw tooLarge()
  return decodeUtf8(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks))
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** @throws Refusal 400 when the bytes are not UTF-8 */
export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes)
  } catch {
    throw createNotJson()
  }
}

export function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
