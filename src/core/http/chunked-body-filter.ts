/**
 * Reads the chunked body of a response on its way to undici's parser, and leaves out trailers that the parser would take for
 * header fields: `connection: close` would forbid the next response of the connection, and `content-length` would fail this
 * response. RFC 9110 section 6.5.1 gives such trailers no meaning.
 *
 * The filter follows the grammar of RFC 9112 section 7.1. It stops at bytes that do not fit; the parser judges them.
 */

const LF = 10
const CR = 13
const SEMICOLON = 59

/** Trailers that the parser would take for header fields about the length of a message or about its connection. */
const DROPPED_TRAILERS = [
  'connection:',
  'content-length:',
  'proxy-connection:',
  'transfer-encoding:',
  'upgrade:',
]

/** Bytes of such trailers that one response may have. Nothing else counts them. */
const MAX_DROPPED_TRAILER_BYTES = 65_536

/** Largest size of a chunk: a number holds it exactly. */
const MAX_CHUNK_SIZE = 2 ** 48

/** The states: what comes next. */
const SIZE = 0
const EXTENSION = 1
const SIZE_LF = 2
const DATA = 3
const DATA_CR = 4
const DATA_LF = 5
const TRAILERS = 6

export class ChunkedBodyFilter {
  /** The body has ended, or does not follow the grammar. The next bytes need no filter. */
  isDone = true
  #expected = SIZE
  /** The size of the chunk as far as it was read; then the bytes of the chunk that have not come yet. */
  #remaining = 0
  #hasDigit = false
  /** The beginning of a trailer whose name is not complete yet. */
  #partialLine: Buffer | undefined
  /** The present line is passed on or left out already; its end has not come yet. */
  #isInLine = false
  #dropsLine = false
  #droppedBytes = 0

  reset(): void {
    this.isDone = false
    this.#expected = SIZE
    this.#remaining = 0
    this.#hasDigit = false
    this.#partialLine = undefined
    this.#isInLine = false
    this.#droppedBytes = 0
  }

  /**
   * Filters the next bytes of the body, until `isDone`.
   * @returns the bytes for the parser: nearly always the chunk itself
   * @throws an Error that says why the response is refused
   */
  filter(chunk: Buffer): Buffer {
    for (let at = 0; at < chunk.length; at++) {
      if (this.#expected === TRAILERS) return this.#filterTrailers(chunk, at)
      if (this.#expected === DATA) {
        const length = Math.min(this.#remaining, chunk.length - at)
        this.#remaining -= length
        at += length - 1
        if (this.#remaining === 0) this.#expected = DATA_CR
      } else if (!this.#readByte(chunk[at] as number)) {
        this.isDone = true
        return chunk
      }
    }
    return chunk
  }

  /** @returns whether the grammar allows this byte here */
  #readByte(byte: number): boolean {
    switch (this.#expected) {
      case SIZE: {
        const digit = hexDigit(byte)
        if (digit >= 0) {
          this.#hasDigit = true
          this.#remaining = this.#remaining * 16 + digit
          return this.#remaining <= MAX_CHUNK_SIZE
        }
        if (byte === SEMICOLON) this.#expected = EXTENSION
        else if (byte === CR) this.#expected = SIZE_LF
        else return false
        return this.#hasDigit
      }
      case EXTENSION:
        if (byte === CR) this.#expected = SIZE_LF
        return byte !== LF
      case SIZE_LF:
        this.#expected = this.#remaining === 0 ? TRAILERS : DATA
        return byte === LF
      case DATA_CR:
        this.#expected = DATA_LF
        return byte === CR
      default:
        this.#expected = SIZE
        this.#hasDigit = false
        return byte === LF
    }
  }

  /** @param at index of the first byte of the trailers in this chunk */
  #filterTrailers(chunk: Buffer, at: number): Buffer {
    const data = this.#partialLine ? Buffer.concat([this.#partialLine, chunk]) : chunk
    this.#partialLine = undefined
    const kept: Buffer[] = []
    // Bytes before this index are dealt with.
    let from = 0
    while (!this.isDone && at < data.length) {
      const end = data.indexOf(LF, at) + 1
      const isLeft = this.#shouldDrop(data, at, end || data.length)
      if (isLeft === undefined && end === 0) {
        this.#partialLine = data.subarray(at)
        kept.push(data.subarray(from, at))
        return Buffer.concat(kept)
      }
      this.#isInLine = end === 0
      this.#dropsLine = isLeft === true
      const next = end || data.length
      if (isLeft) {
        if (at > from) kept.push(data.subarray(from, at))
        this.#dropBytes(next - at)
        from = next
      }
      at = next
    }
    if (from === 0) return data
    kept.push(data.subarray(from))
    return Buffer.concat(kept)
  }

  /** Whether this line is left out; undefined if that cannot be decided yet. */
  #shouldDrop(data: Buffer, at: number, end: number): boolean | undefined {
    if (this.#isInLine) return this.#dropsLine
    if (data[at] === LF || (data[at] === CR && data[at + 1] === LF)) {
      this.isDone = true
      return false
    }
    const length = end - at
    if (length === 1 && data[at] === CR) return undefined
    for (const name of DROPPED_TRAILERS) {
      if (matchesPrefix(data, at, end, name)) return length >= name.length ? true : undefined
    }
    return false
  }

  #dropBytes(bytes: number): void {
    this.#droppedBytes += bytes
    if (this.#droppedBytes > MAX_DROPPED_TRAILER_BYTES) {
      throw new Error(
        `more than ${MAX_DROPPED_TRAILER_BYTES} bytes of trailers without a meaning, such as connection and content-length`,
      )
    }
  }
}

function hexDigit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48
  const lower = byte | 32
  return lower >= 97 && lower <= 102 ? lower - 87 : -1
}

/** Whether the bytes and the text, which must be in lower case, agree up to the end of the shorter one. */
export function matchesPrefix(data: Buffer, at: number, end: number, text: string): boolean {
  const length = Math.min(end - at, text.length)
  for (let index = 0; index < length; index++) {
    const byte = data[at + index] as number
    const lower = byte >= 65 && byte <= 90 ? byte + 32 : byte
    if (lower !== text.charCodeAt(index)) return false
  }
  return true
}
