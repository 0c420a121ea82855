/**
 * Walks the chunked body of an answer on its way to undici's parser, and leaves out of its trailers what that parser takes
 * for header fields: `connection: close` would forbid the next answer of the connection, and `content-length` would fail
 * this one. RFC 9110 section 6.5.1 gives such trailers no meaning.
 *
 * It reads what the grammar of RFC 9112 section 7.1 has, and no more: where the bytes are something else it stops, and
 * the parser judges them.
 */

const LF = 10
const CR = 13
const SEMICOLON = 59

/** Trailers that the parser would take for header fields which frame a message or keep a connection. */
const DROPPED_TRAILERS = [
  'connection:',
  'content-length:',
  'proxy-connection:',
  'transfer-encoding:',
  'upgrade:',
]

/** Bytes of such trailers that one answer may have: nobody counts what is left out. */
const MAX_DROPPED_TRAILER_BYTES = 65_536

/** No chunk is larger, so that its size is exact. */
const MAX_CHUNK_SIZE = 2 ** 48

/** What comes next. */
const SIZE = 0
const EXTENSION = 1
const SIZE_LF = 2
const DATA = 3
const DATA_CR = 4
const DATA_LF = 5
const TRAILERS = 6

export class ChunkedBodyFilter {
  /** The body has ended, or is none that can be walked: its bytes are looked at no more. */
  isDone = true
  #expected = SIZE
  /** The size of a chunk, and then what of the chunk has not come. */
  #remaining = 0
  #hasDigit = false
  /** The begin of a trailer whose name has not come whole. */
  #partialLine: Buffer | undefined
  /** It is decided about the present line, whose end has not come. */
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
   * Takes the next bytes of the body, until it is done.
   * @returns what the parser is to have: nearly always the chunk itself
   * @throws an Error that says why the answer is refused
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

  /** @returns whether the grammar has this byte here */
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

  /** @param at where the trailers, or what has come of them, begin */
  #filterTrailers(chunk: Buffer, at: number): Buffer {
    const data = this.#partialLine ? Buffer.concat([this.#partialLine, chunk]) : chunk
    this.#partialLine = undefined
    const kept: Buffer[] = []
    // Up to where it is decided what becomes of the bytes.
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

  /** Whether this line is left out; undefined where that is not decided yet. */
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
        `more than ${MAX_DROPPED_TRAILER_BYTES} bytes of trailers that have no meaning`,
      )
    }
  }
}

function hexDigit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48
  const lower = byte | 32
  return lower >= 97 && lower <= 102 ? lower - 87 : -1
}

/** Whether the bytes and the text, which is in lower case, agree as far as both go. */
export function matchesPrefix(data: Buffer, at: number, end: number, text: string): boolean {
  const length = Math.min(end - at, text.length)
  for (let index = 0; index < length; index++) {
    const byte = data[at + index] as number
    const lower = byte >= 65 && byte <= 90 ? byte + 32 : byte
    if (lower !== text.charCodeAt(index)) return false
  }
  return true
}
