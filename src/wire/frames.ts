/**
 * The packets of the wire: `[<decimal bytes>#<direction>]<utf-8 text>`, and blobs between them. A blob from an original peer
 * is raw bytes: only the code before it tells the receiver how many. Between two manyhost peers, blobs are in packets.
 */
import { isUtf8 } from 'node:buffer'
import { ManyhostError } from '../core/errors.ts'
import { createProtocolError } from './errors.ts'

/** A packet with its text, or a part of a blob with its bytes. */
export interface Packet {
  readonly direction: string
  readonly text: string
  readonly bytes: Buffer | undefined
}

/** Maximum length of a header, with both brackets. */
export const MAX_HEADER_BYTES = 60
/** Direction of a packet that carries a part of a blob. */
export const BLOB_DIRECTION = 'blob'

const OPENING_BRACKET = 0x5b
const CLOSING_BRACKET = 0x5d
const HASH_SIGN = 0x23
const EMPTY_BUFFER = Buffer.alloc(0)
/** Chunks below this size are gathered in one buffer: a peer that sends single bytes would cost 100 bytes of memory for each. */
const MIN_SEPARATE_CHUNK = 4_096
const GATHER_BUFFER_BYTES = 16_384

/** A packet in the form in which it is sent. */
export function formatPacket(direction: string, text: string): string {
  return `[${Buffer.byteLength(text)}#${direction}]${text}`
}

/**
 * Incremental parser: `push` chunks, `readPacket`. Bytes are copied only if one packet lies in several chunks.
 *
 *     #chunk            #laterChunks
 *     [read|unread]  -> [unread] -> [unread] -> [unread, small chunks gathered]
 *           ^ #offset                                            ^ #gatherBufferUsed
 */
export class PacketParser {
  /** Maximum bytes of a packet's text. It may be raised, as after authentication. */
  maxTextBytes: number
  /** Whether blobs arrive in packets. */
  isFramed = false
  #chunk: Buffer = EMPTY_BUFFER
  #offset = 0
  #laterChunks: Buffer[] = []
  #gatherBuffer: Buffer | undefined
  #gatherBufferUsed = 0
  #buffered = 0
  /** Length of the text that comes next; -1 if a header comes next. */
  #textLength = -1
  #direction = ''
  #blobLeft = 0

  constructor(maxTextBytes: number) {
    this.maxTextBytes = maxTextBytes
  }

  /** Bytes that have arrived and were not read yet. */
  get buffered(): number {
    return this.#buffered
  }

  /** Whether a packet has begun and is incomplete. */
  get isMidPacket(): boolean {
    return (
      this.#textLength >= 0 ||
      this.#blobLeft > 0 ||
      (this.#buffered > 0 && this.#findHeaderEnd() < 0)
    )
  }

  push(chunk: Buffer): void {
    if (chunk.length === 0) return
    this.#buffered += chunk.length
    if (this.#offset === this.#chunk.length && this.#laterChunks.length === 0) {
      this.#chunk = chunk
      this.#offset = 0
      this.#gatherBuffer = undefined
    } else if (chunk.length < MIN_SEPARATE_CHUNK) this.#gather(chunk)
    else {
      this.#laterChunks.push(chunk)
      this.#gatherBuffer = undefined
    }
  }

  /**
   * The next packet, or the next part of a framed blob; undefined if it is incomplete.
   * @throws ManyhostError MANYHOST_WIRE_PROTOCOL, MANYHOST_WIRE_LIMIT
   */
  readPacket(): Packet | undefined {
    while (this.#textLength < 0 && this.#blobLeft === 0) if (!this.#readHeader()) return undefined
    if (this.#blobLeft > 0) return this.#readBlobPart()
    if (this.#textLength > 0 && !this.#joinChunks(this.#textLength)) return undefined
    const end = this.#offset + this.#textLength
    const text = this.#textLength === 0 ? '' : this.#chunk.toString('utf8', this.#offset, end)
    if (text.includes('\ufffd') && !isUtf8(this.#chunk.subarray(this.#offset, end))) {
      throw createProtocolError(`the text of a [#${this.#direction}] packet is not UTF-8`)
    }
    this.#offset = end
    this.#buffered -= this.#textLength
    this.#textLength = -1
    return { direction: this.#direction, text, bytes: undefined }
  }

  /** At most `maxBytes` bytes of a blob, as a view into a received chunk; undefined if none have arrived. */
  readBytes(maxBytes: number): Buffer | undefined {
    if (!this.#ensureUnreadByte()) return undefined
    const end = Math.min(this.#offset + maxBytes, this.#chunk.length)
    const bytes = this.#chunk.subarray(this.#offset, end)
    this.#offset = end
    this.#buffered -= bytes.length
    return bytes
  }

  /** All unread bytes, for the protocol that takes the socket over. */
  takeAll(): Buffer {
    const all = Buffer.concat([this.#chunk.subarray(this.#offset), ...this.#laterChunks])
    this.#chunk = EMPTY_BUFFER
    this.#offset = this.#buffered = 0
    this.#laterChunks = []
    return all
  }

  #readBlobPart(): Packet | undefined {
    const bytes = this.readBytes(this.#blobLeft)
    if (!bytes) return undefined
    this.#blobLeft -= bytes.length
    return { direction: BLOB_DIRECTION, text: '', bytes }
  }

  #gather(chunk: Buffer): void {
    if (!this.#gatherBuffer || this.#gatherBufferUsed + chunk.length > GATHER_BUFFER_BYTES) {
      this.#gatherBuffer = Buffer.allocUnsafe(GATHER_BUFFER_BYTES)
      this.#gatherBufferUsed = 0
      this.#laterChunks.push(EMPTY_BUFFER)
    }
    chunk.copy(this.#gatherBuffer, this.#gatherBufferUsed)
    this.#gatherBufferUsed += chunk.length
    const last = this.#laterChunks.length - 1
    const begin = this.#gatherBufferUsed - chunk.length - (this.#laterChunks[last] as Buffer).length
    this.#laterChunks[last] = this.#gatherBuffer.subarray(begin, this.#gatherBufferUsed)
  }

  /** Makes `#chunk` have at least one unread byte. False if there is none. */
  #ensureUnreadByte(): boolean {
    if (this.#offset < this.#chunk.length) return true
    const next = this.#laterChunks.shift()
    if (!next) return false
    if (this.#laterChunks.length === 0) this.#gatherBuffer = undefined
    this.#chunk = next
    this.#offset = 0
    return true
  }

  /** Makes the first `count` unread bytes lie in `#chunk`. False if fewer have arrived. */
  #joinChunks(count: number): boolean {
    if (this.#chunk.length - this.#offset >= count) return true
    if (this.#buffered < count) return false
    const parts = [this.#chunk.subarray(this.#offset)]
    let missing = count - (parts[0] as Buffer).length
    let used = 0
    while (missing > 0) {
      const part = this.#laterChunks[used] as Buffer
      if (part.length > missing) {
        parts.push(part.subarray(0, missing))
        this.#laterChunks[used] = part.subarray(missing)
        missing = 0
      } else {
        parts.push(part)
        missing -= part.length
        used++
      }
    }
    this.#laterChunks.splice(0, used)
    if (this.#laterChunks.length === 0) this.#gatherBuffer = undefined
    this.#chunk = Buffer.concat(parts, count)
    this.#offset = 0
    return true
  }

  /** Offset of the header's closing bracket; -1 if it has not arrived. Joins chunks up to the length of a header. */
  #findHeaderEnd(): number {
    if (!this.#ensureUnreadByte()) return -1
    let end = this.#chunk.indexOf(CLOSING_BRACKET, this.#offset)
    if (
      end < 0 &&
      this.#laterChunks.length > 0 &&
      this.#chunk.length - this.#offset < MAX_HEADER_BYTES
    ) {
      this.#joinChunks(Math.min(MAX_HEADER_BYTES, this.#buffered))
      end = this.#chunk.indexOf(CLOSING_BRACKET, this.#offset)
    }
    return end
  }

  #excerpt(): string {
    return JSON.stringify(this.#chunk.toString('latin1', this.#offset, this.#offset + 30))
  }

  #readHeader(): boolean {
    if (!this.#ensureUnreadByte()) return false
    if (this.#chunk[this.#offset] !== OPENING_BRACKET)
      throw createProtocolError(`a packet must begin with "[", got ${this.#excerpt()}`)
    const end = this.#findHeaderEnd()
    if (end < 0 || end - this.#offset >= MAX_HEADER_BYTES) {
      if (end < 0 && this.#buffered < MAX_HEADER_BYTES) return false
      throw createProtocolError(
        `a packet header must end within ${MAX_HEADER_BYTES} bytes, got ${this.#excerpt()}`,
      )
    }
    let at = this.#offset + 1
    let length = 0
    for (; at < end; at++) {
      const digit = (this.#chunk[at] as number) - 0x30
      if (digit < 0 || digit > 9) break
      length = length * 10 + digit
    }
    if (this.#chunk[at] !== HASH_SIGN || at === this.#offset + 1 || !Number.isSafeInteger(length)) {
      throw createProtocolError(
        `a packet header must be "[<decimal bytes>#<direction>]", got ${this.#excerpt()}`,
      )
    }
    this.#direction = this.#chunk.toString('latin1', at + 1, end)
    this.#buffered -= end + 1 - this.#offset
    this.#offset = end + 1
    if (this.isFramed && this.#direction === BLOB_DIRECTION) {
      this.#blobLeft = length
      return true
    }
    if (length > this.maxTextBytes) {
      throw new ManyhostError(
        'MANYHOST_WIRE_LIMIT',
        `a [#${this.#direction}] packet announces ${length} bytes; at most ${this.maxTextBytes} are allowed`,
      )
    }
    this.#textLength = length
    return true
  }
}
