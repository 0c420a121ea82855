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
const LEFT_OUT = [
  'connection:',
  'content-length:',
  'proxy-connection:',
  'transfer-encoding:',
  'upgrade:',
]

/** Bytes of such trailers that one answer may have: nobody counts what is left out. */
const MAX_LEFT_OUT = 65_536

/** No chunk is larger, so that its size is exact. */
const LARGEST = 2 ** 48

/** What comes next. */
const SIZE = 0
const EXTENSION = 1
const SIZE_LF = 2
const DATA = 3
const DATA_CR = 4
const DATA_LF = 5
const TRAILERS = 6

export class ChunkedBody {
  /** The body has ended, or is none that can be walked: its bytes are looked at no more. */
  isDone = true
  #next = SIZE
  /** The size of a chunk, and then what of the chunk has not come. */
  #left = 0
  #hasDigit = false
  /** The begin of a trailer whose name has not come whole. */
  #held: Buffer | undefined
  /** It is decided about the present line, whose end has not come. */
  #isInLine = false
  #leavesLine = false
  #leftOut = 0

  begin(): void {
    this.isDone = false
    this.#next = SIZE
    this.#left = 0
    this.#hasDigit = false
    this.#held = undefined
    this.#isInLine = false
    this.#leftOut = 0
  }

  /**
   * Takes the next bytes of the body, until it is done.
   * @returns what the parser is to have: nearly always the chunk itself
   * @throws an Error that says why the answer is refused
   */
  take(chunk: Buffer): Buffer {
    for (let at = 0; at < chunk.length; at++) {
      if (this.#next === TRAILERS) return this.#trailers(chunk, at)
      if (this.#next === DATA) {
        const length = Math.min(this.#left, chunk.length - at)
        this.#left -= length
        at += length - 1
        if (this.#left === 0) this.#next = DATA_CR
      } else if (!this.#step(chunk[at] as number)) {
        this.isDone = true
        return chunk
      }
    }
    return chunk
  }

  /** @returns whether the grammar has this byte here */
  #step(byte: number): boolean {
    switch (this.#next) {
      case SIZE: {
        const digit = hexDigit(byte)
        if (digit >= 0) {
          this.#hasDigit = true
          this.#left = this.#left * 16 + digit
          return this.#left <= LARGEST
        }
        if (byte === SEMICOLON) this.#next = EXTENSION
        else if (byte === CR) this.#next = SIZE_LF
        else return false
        return this.#hasDigit
      }
      case EXTENSION:
        if (byte === CR) this.#next = SIZE_LF
        return byte !== LF
      case SIZE_LF:
        this.#next = this.#left === 0 ? TRAILERS : DATA
        return byte === LF
      case DATA_CR:
        this.#next = DATA_LF
        return byte === CR
      default:
        this.#next = SIZE
        this.#hasDigit = false
        return byte === LF
    }
  }

  /** @param at where the trailers, or what has come of them, begin */
  #trailers(chunk: Buffer, at: number): Buffer {
    const data = this.#held ? Buffer.concat([this.#held, chunk]) : chunk
    this.#held = undefined
    const kept: Buffer[] = []
    // Up to where it is decided what becomes of the bytes.
    let from = 0
    while (!this.isDone && at < data.length) {
      const end = data.indexOf(LF, at) + 1
      const isLeft = this.#leaves(data, at, end || data.length)
      if (isLeft === undefined && end === 0) {
        this.#held = data.subarray(at)
        kept.push(data.subarray(from, at))
        return Buffer.concat(kept)
      }
      this.#isInLine = end === 0
      this.#leavesLine = isLeft === true
      const next = end || data.length
      if (isLeft) {
        if (at > from) kept.push(data.subarray(from, at))
        this.#leaveOut(next - at)
        from = next
      }
      at = next
    }
    if (from === 0) return data
    kept.push(data.subarray(from))
    return Buffer.concat(kept)
  }

  /** Whether this line is left out; undefined where that is not decided yet. */
  #leaves(data: Buffer, at: number, end: number): boolean | undefined {
    if (this.#isInLine) return this.#leavesLine
    if (data[at] === LF || (data[at] === CR && data[at + 1] === LF)) {
      this.isDone = true
      return false
    }
    const length = end - at
    if (length === 1 && data[at] === CR) return undefined
    for (const name of LEFT_OUT) {
      if (beginsLike(data, at, end, name)) return length >= name.length ? true : undefined
    }
    return false
  }

  #leaveOut(bytes: number): void {
    this.#leftOut += bytes
    if (this.#leftOut > MAX_LEFT_OUT) {
      throw new Error(`more than ${MAX_LEFT_OUT} bytes of trailers that have no meaning`)
    }
  }
}

function hexDigit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48
  const lower = byte | 32
  return lower >= 97 && lower <= 102 ? lower - 87 : -1
}

/** Whether the bytes and the text, which is in lower case, agree as far as both go. */
export function beginsLike(data: Buffer, at: number, end: number, text: string): boolean {
  const length = Math.min(end - at, text.length)
  for (let index = 0; index < length; index++) {
    const byte = data[at + index] as number
    const lower = byte >= 65 && byte <= 90 ? byte + 32 : byte
    if (lower !== text.charCodeAt(index)) return false
  }
  return true
}
