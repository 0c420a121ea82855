/** How the body of a response is framed for its client, by the HTTP version of the client. Pure. */
import type { IncomingMessage } from 'node:http'

/**
 * - `none`: neither content nor a length (204; RFC 9110 section 8.6)
 * - `empty`: no content and the length 0, whatever the instance sent (205; section 15.3.6)
 * - `plain`: no trailers, because no content follows, or because the client does not know chunks
 * - `chunks`: HTTP/1.1, where trailers can follow chunks only
 * - `two`: HTTP/2, where trailers can follow any content
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
 * The reason phrase as node:http takes it, one character for a byte; empty for the usual phrase of the status. The phrase
 * was decoded as UTF-8 before, so a phrase in another encoding has lost its bytes.
 */
export function encodeReasonPhrase(text: string): string {
  if (ASCII_PATTERN.test(text)) return text
  if (LOST_BYTES.test(text)) return ''
  return Buffer.from(text, 'utf8').toString('latin1')
}

const ASCII_PATTERN = /^[\t\x20-\x7e]*$/
/** The replacement character for bytes that were not UTF-8, lone surrogates, and control characters. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern looks for them
const LOST_BYTES = /[\x00-\x08\x0a-\x1f\x7f\ufffd]|\p{Surrogate}/u
