/** JSON from outside: how large, how deep, and what is refused, as every answer of the API says it. */
import type { IncomingMessage } from 'node:http'

/** One member of `errors` in an answer. */
export interface ReplyError {
  readonly title: string
  readonly detail: string
  readonly status_code: number
  /** JSON Pointer to the value that is wrong, where there is one. */
  readonly source?: { readonly pointer: string }
}

/** A request that is not done, with all that is wrong with it. */
export class Refusal extends Error {
  readonly faults: readonly ReplyError[]
  readonly headers: Readonly<Record<string, string>>

  constructor(faults: readonly ReplyError[], headers: Readonly<Record<string, string>> = {}) {
    super(faults.map(({ title, detail }) => `${title}: ${detail}`).join('; '))
    this.name = 'Refusal'
    this.faults = faults
    this.headers = headers
  }

  /** The status that all have; else 400 if all are the client's, 500 if not. */
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

/** How deep JSON from outside may be: far more than people write, far less than what overflows a stack. */
const MAX_DEPTH = 64
/** Values in one text: what walks over them, a schema for instance, does it this often. */
const MAX_VALUES = 100_000

export interface ParsedJson {
  readonly value: unknown
  /** Values in it, about: what a check of it costs. */
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

/** The original's words, the slips in them included: clients may look for them. */
export function createNotJson(): Refusal {
  const detail =
    'Could not undertand input. Either it is not JSON, or the type was not specified using the Content-Type header'
  return createRefusal(400, 'Request Not JSON', detail)
}

/** Before it is parsed: what follows runs over every value, and into every depth. */
function measureJson(text: string): { depth: number; count: number } {
  let [depth, deepest, count, quoted] = [0, 0, 1, false]
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (quoted) {
      if (code === 0x5c) i++
      else if (code === 0x22) quoted = false
    } else if (code === 0x22) quoted = true
    else if (code === 0x5b || code === 0x7b) {
      count++
      if (++depth > deepest) deepest = depth
    } else if (code === 0x5d || code === 0x7d) depth--
    else if (code === 0x2c) count++
  }
  return { depth: deepest, count }
}

/** Bytes beyond the limit that are read and dropped, so that a client that is still sending hears the refusal. */
const MAX_DROPPED_BYTES = 16_777_216

/** The body as text, up to `limit` bytes. @throws Refusal 413, 400 */
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

/** @throws Refusal 400 for what is no UTF-8 */
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
