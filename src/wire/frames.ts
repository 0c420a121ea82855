/**
 * The wire's packets: `[<decimal bytes>#<direction>]<utf-8 text>`, and blobs between them. After the reader knows that a
 * blob is due, it asks for raw bytes; between two manyhost peers blobs come in packets of their own instead.
 */
import { isUtf8 } from 'node:buffer'
import { ManyhostError } from '../core/errors.ts'

/** What comes off the wire: a packet with its text, or a part of a blob with its bytes. */
export interface Packet {
  readonly dir: string
  readonly text: string
  readonly bytes: Buffer | undefined
}

/** Longest header, with both brackets. */
export const HEADER_MAX = 60
/** Direction of a packet that carries a part of a blob. */
export const BLOB = 'blob'

const OPEN = 0x5b
const CLOSE = 0x5d
const HASH = 0x23
const EMPTY = Buffer.alloc(0)
/** Chunks below this are gathered in one buffer, or a peer that sends single bytes would cost 100 bytes for each. */
const SMALL = 4_096
const TAIL = 16_384

export function protocolError(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_WIRE_PROTOCOL', message)
}

/** One packet as it is written. */
export function packet(dir: string, text: string): string {
  return `[${Buffer.byteLength(text)}#${dir}]${text}`
}

/** Incremental parser: `push` chunks, `read` packets. Bytes are copied only where one packet lies in several chunks. */
export class Frames {
  /** Most bytes of a packet's text. May be raised, as after authentication. */
  limit: number
  /** Whether blobs come in packets. */
  isFramed = false
  #head: Buffer = EMPTY
  #at = 0
  #rest: Buffer[] = []
  #tail: Buffer | undefined
  #tailUsed = 0
  #buffered = 0
  /** Length of the text that is awaited; -1 while that is a header. */
  #length = -1
  #dir = ''
  #blobLeft = 0

  constructor(limit: number) {
    this.limit = limit
  }

  /** Bytes that came and were not read yet. */
  get buffered(): number {
    return this.#buffered
  }

  /** Whether a packet has begun and is not whole. */
  get isAmid(): boolean {
    return this.#length >= 0 || this.#blobLeft > 0 || (this.#buffered > 0 && this.#scan() < 0)
  }

  push(chunk: Buffer): void {
    if (chunk.length === 0) return
    this.#buffered += chunk.length
    if (this.#at === this.#head.length && this.#rest.length === 0) {
      this.#head = chunk
      this.#at = 0
      this.#tail = undefined
    } else if (chunk.length < SMALL) this.#gather(chunk)
    else {
      this.#rest.push(chunk)
      this.#tail = undefined
    }
  }

  /**
   * The next packet, or the next part of a framed blob; undefined until it is whole.
   * @throws ManyhostError MANYHOST_WIRE_PROTOCOL, MANYHOST_WIRE_LIMIT
   */
  read(): Packet | undefined {
    while (this.#length < 0 && this.#blobLeft === 0) if (!this.#header()) return undefined
    if (this.#blobLeft > 0) return this.#blobPart()
    if (this.#length > 0 && !this.#join(this.#length)) return undefined
    const end = this.#at + this.#length
    const text = this.#length === 0 ? '' : this.#head.toString('utf8', this.#at, end)
    if (text.includes('\ufffd') && !isUtf8(this.#head.subarray(this.#at, end))) {
      throw protocolError(`the text of a [#${this.#dir}] packet is not UTF-8`)
    }
    this.#at = end
    this.#buffered -= this.#length
    this.#length = -1
    return { dir: this.#dir, text, bytes: undefined }
  }

  /** Up to `most` bytes of a blob, as they lie in the buffer; undefined while there are none. */
  readRaw(most: number): Buffer | undefined {
    if (!this.#advance()) return undefined
    const end = Math.min(this.#at + most, this.#head.length)
    const bytes = this.#head.subarray(this.#at, end)
    this.#at = end
    this.#buffered -= bytes.length
    return bytes
  }

  /** All that was not read, for who takes the socket over. */
  takeAll(): Buffer {
    const all = Buffer.concat([this.#head.subarray(this.#at), ...this.#rest])
    this.#head = EMPTY
    this.#at = this.#buffered = 0
    this.#rest = []
    return all
  }

  #blobPart(): Packet | undefined {
    const bytes = this.readRaw(this.#blobLeft)
    if (!bytes) return undefined
    this.#blobLeft -= bytes.length
    return { dir: BLOB, text: '', bytes }
  }

  #gather(chunk: Buffer): void {
    if (!this.#tail || this.#tailUsed + chunk.length > TAIL) {
      this.#tail = Buffer.allocUnsafe(TAIL)
      this.#tailUsed = 0
      this.#rest.push(EMPTY)
    }
    chunk.copy(this.#tail, this.#tailUsed)
    this.#tailUsed += chunk.length
    const last = this.#rest.length - 1
    const begin = this.#tailUsed - chunk.length - (this.#rest[last] as Buffer).length
    this.#rest[last] = this.#tail.subarray(begin, this.#tailUsed)
  }

  /** Makes `#head` have at least one unread byte. */
  #advance(): boolean {
    if (this.#at < this.#head.length) return true
    const next = this.#rest.shift()
    if (!next) return false
    if (this.#rest.length === 0) this.#tail = undefined
    this.#head = next
    this.#at = 0
    return true
  }

  /** Makes the first `count` unread bytes lie in `#head`. */
  #join(count: number): boolean {
    if (this.#head.length - this.#at >= count) return true
    if (this.#buffered < count) return false
    const parts = [this.#head.subarray(this.#at)]
    let missing = count - (parts[0] as Buffer).length
    let used = 0
    while (missing > 0) {
      const part = this.#rest[used] as Buffer
      if (part.length > missing) {
        parts.push(part.subarray(0, missing))
        this.#rest[used] = part.subarray(missing)
        missing = 0
      } else {
        parts.push(part)
        missing -= part.length
        used++
      }
    }
    this.#rest.splice(0, used)
    if (this.#rest.length === 0) this.#tail = undefined
    this.#head = Buffer.concat(parts, count)
    this.#at = 0
    return true
  }

  /** Where the header's closing bracket is; -1 while there is none. Joins no more than a header. */
  #scan(): number {
    if (!this.#advance()) return -1
    let end = this.#head.indexOf(CLOSE, this.#at)
    if (end < 0 && this.#rest.length > 0 && this.#head.length - this.#at < HEADER_MAX) {
      this.#join(Math.min(HEADER_MAX, this.#buffered))
      end = this.#head.indexOf(CLOSE, this.#at)
    }
    return end
  }

  #excerpt(): string {
    return JSON.stringify(this.#head.toString('latin1', this.#at, this.#at + 30))
  }

  #header(): boolean {
    if (!this.#advance()) return false
    if (this.#head[this.#at] !== OPEN)
      throw protocolError(`no packet begins with ${this.#excerpt()}`)
    const end = this.#scan()
    if (end < 0 || end - this.#at >= HEADER_MAX) {
      if (end < 0 && this.#buffered < HEADER_MAX) return false
      throw protocolError(
        `no packet header within the first ${HEADER_MAX} bytes: ${this.#excerpt()}`,
      )
    }
    let at = this.#at + 1
    let length = 0
    for (; at < end; at++) {
      const digit = (this.#head[at] as number) - 0x30
      if (digit < 0 || digit > 9) break
      length = length * 10 + digit
    }
    if (this.#head[at] !== HASH || at === this.#at + 1 || !Number.isSafeInteger(length)) {
      throw protocolError(`no length of a packet: ${this.#excerpt()}`)
    }
    this.#dir = this.#head.toString('latin1', at + 1, end)
    this.#buffered -= end + 1 - this.#at
    this.#at = end + 1
    if (this.isFramed && this.#dir === BLOB) {
      this.#blobLeft = length
      return true
    }
    if (length > this.limit) {
      throw new ManyhostError(
        'MANYHOST_WIRE_LIMIT',
        `a [#${this.#dir}] packet of ${length} bytes; at most ${this.limit} are allowed`,
      )
    }
    this.#length = length
    return true
  }
}
