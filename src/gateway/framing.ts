/** How the answer of an instance is sent on: what its client can be told by the protocol that it speaks. Pure. */
import type { IncomingMessage } from 'node:http'

/**
 * - `none`: neither content nor a length (204; RFC 9110 section 8.6)
 * - `empty`: no content, and a length that says so, whatever the instance sent (205; section 15.3.6)
 * - `plain`: no trailers, because no content follows, or because the client has no chunks
 * - `chunks`: HTTP/1.1, where trailers follow chunks only
 * - `two`: HTTP/2, where trailers may follow any content
 */
export type Framing = 'none' | 'empty' | 'plain' | 'chunks' | 'two'

type RequestVersion = Pick<IncomingMessage, 'method' | 'httpVersion' | 'httpVersionMajor'>

export function chooseFraming(
  { method, httpVersion, httpVersionMajor }: RequestVersion,
  status: number,
): Framing {
  if (status === 204) return 'none'
  if (status === 205) return 'empty'
  if (status === 304 || method === 'HEAD') return 'plain'
  if (httpVersionMajor === 2) return 'two'
  return httpVersion === '1.1' ? 'chunks' : 'plain'
}

/** Whether content may follow this head. */
export function hasContent({ method }: Pick<RequestVersion, 'method'>, status: number): boolean {
  return status !== 204 && status !== 205 && status !== 304 && method !== 'HEAD'
}

/**
 * The reason phrase as node:http takes it, one character for a byte; empty for the usual phrase of the status. A phrase
 * was decoded as UTF-8 before it came here, so that one of another encoding has lost its bytes.
 */
export function encodeReasonPhrase(text: string): string {
  if (ASCII_PATTERN.test(text)) return text
  if (LOST_BYTES.test(text)) return ''
  return Buffer.from(text, 'utf8').toString('latin1')
}

const ASCII_PATTERN = /^[\t\x20-\x7e]*$/
/** The mark of bytes that were no UTF-8, halves of characters, and control bytes. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const LOST_BYTES = /[\x00-\x08\x0a-\x1f\x7f\ufffd]|\p{Surrogate}/u
