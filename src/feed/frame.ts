/**
 * The wire of hpfeeds, byte for byte: `int32 length of all` + `u8 opcode` + body; texts inside are `u8 length` + UTF-8.
 * The broker speaks first (INFO with a nonce), the client answers AUTH with SHA-1(nonce, secret), silence is success.
 */
import { createHash } from 'node:crypto'

export const OPCODE = {
  error: 0,
  info: 1,
  auth: 2,
  publish: 3,
  subscribe: 4,
  unsubscribe: 5,
} as const

export const HEADER_BYTES = 5
const MIB = 1_048_576
/** What follows the header of the longest PUBLISH. */
export const MAX_BODY_BYTES = MIB
const HASH_BYTES = 20

/** Least and most bytes of a whole frame, by opcode: the original's upper limits, and the lower ones that it lacks. */
const FRAME_BOUNDS: readonly (readonly [least: number, most: number])[] = [
  [HEADER_BYTES, HEADER_BYTES + MIB],
  [HEADER_BYTES + 1, HEADER_BYTES + 256 + HASH_BYTES],
  [HEADER_BYTES + 1 + HASH_BYTES, HEADER_BYTES + 256 + HASH_BYTES],
  [HEADER_BYTES + 2, HEADER_BYTES + MIB],
  [HEADER_BYTES + 1, MIB],
  [HEADER_BYTES + 1, MIB],
]

/** A peer that does not speak the protocol: its connection is of no more use. */
export class FrameError extends Error {}

/** Where a frame lies: from its header's first byte to behind its last. Only valid during the call, unless kept. */
export type OnFrame = (opcode: number, bytes: Buffer, start: number, end: number) => void

/** Cuts a stream of bytes into frames. What comes whole is not copied; a frame in pieces is put together once. */
export class FrameParser {
  readonly #onFrame: OnFrame
  /** Upper bound of each frame that is not known to be shorter: few bytes, until the peer has shown who it is. */
  maxFrameBytes = Number.POSITIVE_INFINITY
  #pieces: Buffer[] = []
  #heldBytes = 0
  /** Bytes of the frame in pieces; 0 while its header is not whole. */
  #frameBytes = 0
  #isStopped = false

  constructor(onFrame: OnFrame) {
    this.#onFrame = onFrame
  }

  /** Bytes of a frame that is not whole yet. */
  get heldBytes(): number {
    return this.#heldBytes
  }

  /** No frame is told any more, not even of the chunk at hand. */
  stop(): void {
    this.#isStopped = true
    this.#pieces = []
    this.#heldBytes = 0
  }

  /** @throws FrameError at a length or an opcode that cannot be; nothing after it is read */
  push(chunk: Buffer): void {
    let bytes = chunk
    let at = 0
    if (this.#heldBytes > 0) {
      at = this.#fillFrame(chunk)
      if (at < 0) return
    }
    while (!this.#isStopped && bytes.length - at >= HEADER_BYTES) {
      const length = readFrameLength(bytes, at, this.maxFrameBytes)
      if (bytes.length - at < length) {
        this.#frameBytes = length
        break
      }
      const start = at
      at += length
      this.#onFrame(bytes[start + 4] as number, bytes, start, at)
    }
    if (this.#isStopped || at >= bytes.length) return
    // A length that cannot be is refused before there is an opcode.
    if (bytes.length - at === 4) assertFrameLength(bytes.readInt32BE(at))
    bytes = bytes.subarray(at)
    // A short rest must not keep a long chunk alive.
    this.#pieces.push(bytes.length < chunk.length / 2 ? Buffer.from(bytes) : bytes)
    this.#heldBytes = bytes.length
  }

  /** Adds to the frame in pieces. Where the rest of the chunk begins; -1: there is none, the frame is not whole. */
  #fillFrame(chunk: Buffer): number {
    let at = 0
    if (this.#frameBytes === 0) {
      // At most four bytes are held: the header is put together byte by byte.
      at = Math.min(HEADER_BYTES - this.#heldBytes, chunk.length)
      const header = Buffer.concat([...this.#pieces, chunk.subarray(0, at)])
      this.#pieces = [header]
      this.#heldBytes = header.length
      if (header.length >= 4) assertFrameLength(header.readInt32BE(0))
      if (header.length < HEADER_BYTES) return -1
      this.#frameBytes = readFrameLength(header, 0, this.maxFrameBytes)
    }
    const taken = Math.min(this.#frameBytes - this.#heldBytes, chunk.length - at)
    if (taken > 0) this.#pieces.push(chunk.subarray(at, at + taken))
    this.#heldBytes += taken
    at += taken
    if (this.#heldBytes < this.#frameBytes) return -1
    const frame = Buffer.concat(this.#pieces, this.#frameBytes)
    this.#pieces = []
    this.#heldBytes = 0
    this.#frameBytes = 0
    this.#onFrame(frame[4] as number, frame, 0, frame.length)
    return this.#isStopped || at >= chunk.length ? -1 : at
  }
}

function assertFrameLength(length: number): void {
  if (length < HEADER_BYTES) throw new FrameError(`a frame says that it has ${length} bytes`)
}

/** The length of the frame whose header is here. */
function readFrameLength(bytes: Buffer, at: number, limit: number): number {
  const length = bytes.readInt32BE(at)
  assertFrameLength(length)
  const opcode = bytes[at + 4] as number
  const bounds = FRAME_BOUNDS[opcode]
  if (!bounds) throw new FrameError(`there is no opcode ${opcode}`)
  const [least, most] = bounds
  if (length < least || length > Math.min(most, limit)) {
    throw new FrameError(`a frame with opcode ${opcode} says that it has ${length} bytes`)
  }
  return length
}

export interface FrameText {
  readonly text: string
  /** Where what follows it begins. */
  readonly end: number
}

const UTF8_DECODER = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** @throws FrameError for what is not UTF-8 */
export function decodeText(bytes: Buffer, start: number, end: number): string {
  try {
    return UTF8_DECODER.decode(bytes.subarray(start, end))
  } catch {
    throw new FrameError('a text is not UTF-8')
  }
}

/** A text with its length before it. @throws FrameError */
export function readShortText(bytes: Buffer, start: number, end: number): FrameText {
  const stop = start + 1 + (bytes[start] as number)
  if (start >= end || stop > end) throw new FrameError('a text is longer than its frame')
  return { text: decodeText(bytes, start + 1, stop), end: stop }
}

/** @throws FrameError for a text of more than 255 bytes */
function encodeShortText(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8')
  if (bytes.length > 255) throw new FrameError(`a name has ${bytes.length} bytes, 255 at most`)
  return Buffer.concat([Buffer.of(bytes.length), bytes])
}

function encodeFrame(opcode: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts)
  const header = Buffer.allocUnsafe(HEADER_BYTES)
  header.writeInt32BE(HEADER_BYTES + body.length, 0)
  header[4] = opcode
  return Buffer.concat([header, body])
}

export function errorFrame(text: string): Buffer {
  return encodeFrame(OPCODE.error, Buffer.from(text, 'utf8').subarray(0, MAX_BODY_BYTES))
}

export function infoFrame(name: string, nonce: Uint8Array): Buffer {
  return encodeFrame(OPCODE.info, encodeShortText(name), nonce)
}

export function authFrame(ident: string, hash: Uint8Array): Buffer {
  return encodeFrame(OPCODE.auth, encodeShortText(ident), hash)
}

export function subscribeFrame(ident: string, channel: string): Buffer {
  return encodeFrame(OPCODE.subscribe, encodeShortText(ident), Buffer.from(channel, 'utf8'))
}

export function unsubscribeFrame(ident: string, channel: string): Buffer {
  return encodeFrame(OPCODE.unsubscribe, encodeShortText(ident), Buffer.from(channel, 'utf8'))
}

/** What all messages of an ident to a channel begin with, behind the header: worth keeping. */
export function publishPrefix(ident: string, channel: string): Buffer {
  return Buffer.concat([encodeShortText(ident), encodeShortText(channel)])
}

/** A PUBLISH. A text is sent as UTF-8. @throws FrameError for a payload that is too long */
export function publishFrame(prefix: Buffer, payload: Uint8Array | string): Buffer {
  const isText = typeof payload === 'string'
  const size = isText ? Buffer.byteLength(payload) : payload.byteLength
  const length = HEADER_BYTES + prefix.length + size
  if (length > HEADER_BYTES + MAX_BODY_BYTES) {
    throw new FrameError(
      `a payload of ${size} bytes is too long: ${MAX_BODY_BYTES - prefix.length} at most`,
    )
  }
  const bytes = Buffer.allocUnsafe(length)
  bytes.writeInt32BE(length, 0)
  bytes[4] = OPCODE.publish
  bytes.set(prefix, HEADER_BYTES)
  if (isText) bytes.write(payload, HEADER_BYTES + prefix.length)
  else bytes.set(payload, HEADER_BYTES + prefix.length)
  return bytes
}

/** What AUTH proves: that the secret is known. SHA-1 over four bytes is the protocol's choice: use TLS on open ways. */
export function hashSecret(nonce: Uint8Array, secret: string): Buffer {
  return createHash('sha1').update(nonce).update(secret, 'utf8').digest()
}
