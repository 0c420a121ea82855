/**
 * The frames of hpfeeds, byte for byte: `int32 length of the whole frame`, `u8 opcode`, body. A short text inside the body
 * is `u8 length` and UTF-8. The broker speaks first (INFO with a nonce), the client answers with AUTH, which contains
 * SHA-1(nonce, secret). The broker does not confirm: its silence means success.
 */
import { createHash } from 'node:crypto'
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'

export const OPCODE = {
  error: 0,
  info: 1,
  auth: 2,
  publish: 3,
  subscribe: 4,
  unsubscribe: 5,
} as const

export const HEADER_BYTES = 5
/** Longest short text: its length is one byte. Idents and the channels of messages are such texts. */
export const MAX_NAME_BYTES = 255
const MIB = 1_048_576
/** Longest body of a PUBLISH. */
export const MAX_BODY_BYTES = MIB
/** A SHA-1. */
export const PROOF_BYTES = 20

/** Minimum and maximum bytes of a whole frame, by opcode. The original has only the maximum. */
const FRAME_BOUNDS: readonly (readonly [min: number, max: number])[] = [
  [HEADER_BYTES, HEADER_BYTES + MIB],
  [HEADER_BYTES + 1, HEADER_BYTES + 1 + MAX_NAME_BYTES + PROOF_BYTES],
  [HEADER_BYTES + 1 + PROOF_BYTES, HEADER_BYTES + 1 + MAX_NAME_BYTES + PROOF_BYTES],
  [HEADER_BYTES + 2, HEADER_BYTES + MIB],
  [HEADER_BYTES + 1, MIB],
  [HEADER_BYTES + 1, MIB],
]

/** Bytes that are no frame, or a value that does not fit into one. After such bytes a connection cannot be read further. */
export class FrameError extends Error {}

/** A frame error that the caller's own arguments caused, as an error of an option; anything else unchanged. */
export function toOptionError(where: string, error: unknown): unknown {
  if (!(error instanceof FrameError)) return error
  return new ManyhostError('MANYHOST_INVALID_OPTION', `${where}: ${error.message}`)
}

/** Whether a text can be an ident. */
export function isIdent(text: string): boolean {
  return text !== '' && Buffer.byteLength(text) <= MAX_NAME_BYTES
}

/** Whether messages can name a channel: SUBSCRIBE could carry a longer name, PUBLISH cannot. The empty name is a name. */
export function isChannelName(channel: unknown): channel is string {
  return typeof channel === 'string' && Buffer.byteLength(channel) <= MAX_NAME_BYTES
}

/** @throws FrameError */
export function assertChannelName(channel: unknown): asserts channel is string {
  if (isChannelName(channel)) return
  const got =
    typeof channel === 'string' ? `${Buffer.byteLength(channel)} bytes` : describe(channel)
  throw new FrameError(`a channel must be a text of at most ${MAX_NAME_BYTES} bytes, got ${got}`)
}

/**
 * Called with each frame: it lies in `bytes` from `start`, the first byte of its header, to `end`, which is not part of
 * it. The listener must copy what it keeps after the call.
 */
export type OnFrame = (opcode: number, bytes: Buffer, start: number, end: number) => void

/** Cuts a stream of bytes into frames. A frame that arrives in one chunk is not copied; one in pieces is joined once. */
export class FrameParser {
  readonly #onFrame: OnFrame
  /** Maximum bytes of a frame, beside the maximum of its opcode. It is low until the peer has authenticated. */
  maxFrameBytes = Number.POSITIVE_INFINITY
  #pieces: Buffer[] = []
  #heldBytes = 0
  /** Bytes of the frame that arrives in pieces; 0 while its header is incomplete. */
  #frameBytes = 0
  #isStopped = false

  constructor(onFrame: OnFrame) {
    this.#onFrame = onFrame
  }

  /** Bytes of the incomplete frame that have arrived. */
  get heldBytes(): number {
    return this.#heldBytes
  }

  /** Reports no further frame, not even one in the chunk that is being parsed. */
  stop(): void {
    this.#isStopped = true
    this.#pieces = []
    this.#heldBytes = 0
  }

  /** @throws FrameError at a length or an opcode that is not allowed; nothing after it is read */
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
    // A wrong length is refused before the opcode has arrived.
    if (bytes.length - at === 4) assertFrameLength(bytes.readInt32BE(at))
    bytes = bytes.subarray(at)
    // A short remainder must not keep a long chunk in memory.
    this.#pieces.push(bytes.length < chunk.length / 2 ? Buffer.from(bytes) : bytes)
    this.#heldBytes = bytes.length
  }

  /**
   * Adds the chunk to the frame that arrives in pieces.
   * @returns where the rest of the chunk begins; -1 if there is no rest, or parsing has stopped
   */
  #fillFrame(chunk: Buffer): number {
    let at = 0
    if (this.#frameBytes === 0) {
      // At most four bytes are held: the header is joined byte by byte.
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
    this.#onFrame(opcodeOf(frame), frame, 0, frame.length)
    return this.#isStopped || at >= chunk.length ? -1 : at
  }
}

function assertFrameLength(length: number): void {
  if (length < HEADER_BYTES)
    throw new FrameError(
      `a frame announces a length of ${length} bytes, below its header's ${HEADER_BYTES}`,
    )
}

/** The length of the frame whose header is at `at`. */
function readFrameLength(bytes: Buffer, at: number, limit: number): number {
  const length = bytes.readInt32BE(at)
  assertFrameLength(length)
  const opcode = bytes[at + 4] as number
  const bounds = FRAME_BOUNDS[opcode]
  if (!bounds) throw new FrameError(`a frame has opcode ${opcode}, which does not exist`)
  const [min, max] = bounds
  if (length < min || length > Math.min(max, limit)) {
    throw new FrameError(
      `a frame with opcode ${opcode} announces a length of ${length} bytes; ${min} to ${Math.min(max, limit)} are allowed`,
    )
  }
  return length
}

export interface FrameText {
  readonly text: string
  /** Offset of the first byte behind the text. */
  readonly end: number
}

const UTF8_DECODER = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** @throws FrameError if the bytes are not UTF-8 */
export function decodeText(bytes: Buffer, start: number, end: number): string {
  try {
    return UTF8_DECODER.decode(bytes.subarray(start, end))
  } catch {
    throw new FrameError('a text is not UTF-8')
  }
}

/** Reads a short text: one byte of length, and UTF-8. @throws FrameError */
export function readShortText(bytes: Buffer, start: number, end: number): FrameText {
  const stop = start + 1 + (bytes[start] as number)
  if (start >= end || stop > end) throw new FrameError('a text is longer than its frame')
  return { text: decodeText(bytes, start + 1, stop), end: stop }
}

/** @throws FrameError for a text of more than `MAX_NAME_BYTES` */
function encodeShortText(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8')
  if (bytes.length > MAX_NAME_BYTES)
    throw new FrameError(`a name has ${bytes.length} bytes; at most ${MAX_NAME_BYTES} are allowed`)
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

/** The beginning of the body of all messages of one ident to one channel. Callers keep it, to encode it once. */
export function publishPrefix(ident: string, channel: string): Buffer {
  return Buffer.concat([encodeShortText(ident), encodeShortText(channel)])
}

/**
 * A PUBLISH frame. A text payload is sent as UTF-8.
 * @param prefix from `publishPrefix`
 * @throws FrameError for a payload that is too long
 */
export function publishFrame(prefix: Buffer, payload: Uint8Array | string): Buffer {
  const isText = typeof payload === 'string'
  const size = isText ? Buffer.byteLength(payload) : payload.byteLength
  const length = HEADER_BYTES + prefix.length + size
  if (length > HEADER_BYTES + MAX_BODY_BYTES) {
    throw new FrameError(
      `a payload of ${size} bytes is too long; at most ${MAX_BODY_BYTES - prefix.length} are allowed`,
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

/** The proof in AUTH that the client knows the secret. SHA-1 is the protocol's choice: use TLS on networks that are not yours. */
export function hashSecret(nonce: Uint8Array, secret: string): Buffer {
  return createHash('sha1').update(nonce).update(secret, 'utf8').digest()
}

/** Whether the bytes from `start` to `end` begin with `prefix`. False for an empty prefix. */
export function hasPrefix(bytes: Buffer, start: number, end: number, prefix: Buffer): boolean {
  const { length } = prefix
  if (length === 0 || end - start < length) return false
  for (let i = 0; i < length; i++) if (bytes[start + i] !== prefix[i]) return false
  return true
}

/** The opcode of a frame that begins at offset 0. */
export function opcodeOf(frame: Buffer): number {
  return frame[4] as number
}
