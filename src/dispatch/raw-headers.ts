/** Reads single fields of raw header bytes without creating strings or objects for the others. */
import type { RawHeaders } from './exchange.ts'

/** Value of the first field with this name. The name must be in lower case. */
export function rawHeader(headers: RawHeaders, name: string): string | undefined {
  return rawValue(headers, name)?.toString('latin1')
}

function rawValue(headers: RawHeaders, name: string): Buffer | undefined {
  for (let index = 0; index + 1 < headers.length; index += 2) {
    const candidate = headers[index] as Buffer
    if (candidate.length === name.length && isSameName(candidate, name)) {
      return headers[index + 1]
    }
  }
  return undefined
}

function isSameName(bytes: Buffer, name: string): boolean {
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] as number
    const lower = byte >= 65 && byte <= 90 ? byte + 32 : byte
    if (lower !== name.charCodeAt(index)) return false
  }
  return true
}

/** Bytes of the body of a response; Infinity if only its end tells. RFC 9112 section 6.3. */
export function bodyLength(method: string, status: number, headers: RawHeaders): number {
  if (method === 'HEAD' || status === 204 || status === 304) return 0
  const digits = rawValue(headers, 'content-length')
  if (digits === undefined) return Number.POSITIVE_INFINITY
  let length = 0
  // undici has checked that all bytes are digits.
  for (const digit of digits) length = length * 10 + digit - 48
  return length
}

/** Whether the instance hands the request back unserved (`X-Manyhost-Return: 1`). */
export function isHandedBack(headers: RawHeaders): boolean {
  return rawHeader(headers, 'x-manyhost-return') === '1'
}

/** Whether the head of the response redirects. RFC 9110 section 15.4. */
export function isRedirect(status: number, headers: RawHeaders): boolean {
  return status >= 301 && status <= 308 && rawValue(headers, 'location') !== undefined
}

/** Pairs of names and values, decoded as latin1, as HTTP's bytes are. */
export function rawPairs(headers: RawHeaders): [string, string][] {
  const pairs: [string, string][] = []
  for (let index = 0; index + 1 < headers.length; index += 2) {
    pairs.push([
      (headers[index] as Buffer).toString('latin1'),
      (headers[index + 1] as Buffer).toString('latin1'),
    ])
  }
  return pairs
}
