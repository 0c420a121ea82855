/** One connection of a client, from the dial to its end: the handshake, and what comes and goes. */
import { connect as dial, type Socket } from 'node:net'
import { connect as dialTls } from 'node:tls'
import { asError } from '../core/errors.ts'
import { afterSilence, type Timer } from '../core/time.ts'
import { BatchWriter } from './batch-writer.ts'
import type { FeedTls } from './client-options.ts'
import { authFrame, FrameParser, hashSecret, OPCODE, readShortText } from './frame.ts'
import type { FeedMessage } from './inbox.ts'

export interface FeedLinkSettings {
  readonly host: string
  readonly port: number
  readonly path: string | undefined
  readonly ident: string
  readonly secret: string
  readonly tls: boolean | FeedTls
  readonly connectTimeout: number
  readonly settle: number
}

/** What a link tells; nothing after `onEnd`. */
export interface FeedLinkEvents {
  /** AUTH is sent: whatever is pushed now goes behind it. */
  onOpen(broker: string): void
  /** The broker has not objected, as far as the protocol can tell. */
  onAccepted(): void
  onMessage(message: FeedMessage): void
  /** Words of the broker; if it closes then, they were the reason. */
  onBrokerError(words: string): void
  /** More may be pushed. */
  onDrain(): void
  onEnd(end: FeedLinkEnd): void
}

export interface FeedLinkEnd {
  readonly reason: Error
  /** Of the broker, where they were the reason. */
  readonly brokerError: string | undefined
  readonly wasAccepted: boolean
  /** Messages that were pushed. */
  readonly sentMessages: number
  /** How many of them the system did not take. */
  readonly unsentMessages: number
  /** All of them, where the broker had not accepted us: the next link may have them. */
  readonly unacceptedFrames: readonly Buffer[]
}

/**
 * Bytes that may wait in the socket, or be sent to a broker that has not accepted us, before the rest waits with us,
 * where it can be dropped by the rules.
 */
const MAX_IN_FLIGHT_BYTES = 262_144
/** Milliseconds after which words were not the last ones, where the connection still stands. */
const BROKER_ERROR_TIMEOUT_MS = 5_000
/** As the original has it, in ms: Node's other two numbers are the system's. */
const KEEPALIVE_DELAY_MS = 10_000

export class FeedLink {
  readonly #settings: FeedLinkSettings
  readonly #events: FeedLinkEvents
  readonly #socket: Socket
  readonly #writer: BatchWriter
  readonly #parser: FrameParser
  #timer: Timer
  #state: 'dialling' | 'open' | 'accepted' | 'ended' = 'dialling'
  /** What the broker said last, for as long as it may be why it closes. */
  #brokerError: string | undefined
  #brokerErrorTimer: Timer | undefined
  #cause: Error | undefined
  /** Messages that were pushed while the broker has not accepted us. */
  #unacceptedFrames: Buffer[] = []
  #unacceptedBytes = 0
  #sentMessages = 0
  #unsentMessages = 0
  /** The beginning of the last message, and what it says: the next one mostly says the same. */
  #prefix = Buffer.alloc(0)
  #ident = ''
  #channel = ''

  constructor(settings: FeedLinkSettings, events: FeedLinkEvents) {
    this.#settings = settings
    this.#events = events
    this.#socket = openSocket(settings)
    this.#socket.setNoDelay(true)
    this.#socket.setKeepAlive(true, KEEPALIVE_DELAY_MS)
    this.#writer = new BatchWriter(this.#socket, (_, messages, failed) => {
      if (failed) this.#unsentMessages += messages
      else if (this.isOpen) events.onDrain()
    })
    this.#parser = new FrameParser((...frame) => this.#onFrame(...frame))
    const { connectTimeout } = settings
    this.#timer = afterSilence(connectTimeout, () =>
      this.destroy(new Error(`the broker said nothing within ${connectTimeout} ms`)),
    )
    this.#socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    this.#socket.on('error', (error) => {
      this.#cause ??= error
    })
    this.#socket.on('close', () => this.#onClose())
  }

  get isOpen(): boolean {
    return this.#state === 'open' || this.#state === 'accepted'
  }

  /** Whether more may be pushed before `onDrain`. */
  get hasCapacity(): boolean {
    return (
      this.isOpen &&
      this.#writer.pendingBytes < MAX_IN_FLIGHT_BYTES &&
      this.#unacceptedBytes < MAX_IN_FLIGHT_BYTES
    )
  }

  get pendingBytes(): number {
    return this.#writer.pendingBytes
  }

  /** A message. */
  sendMessage(frame: Buffer): void {
    this.#sentMessages++
    if (this.#state === 'open') {
      this.#unacceptedFrames.push(frame)
      this.#unacceptedBytes += frame.length
    }
    this.#writer.push(frame, 1)
  }

  /** What is no message. */
  sendControl(frame: Uint8Array): void {
    this.#writer.push(frame)
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  /** Says that nothing more comes: the broker reads what there is, objects or not, and closes. */
  end(): void {
    this.#writer.flush()
    this.#socket.end()
    // What it still has for us is not wanted, but its end is.
    this.#socket.resume()
  }

  destroy(cause: Error): void {
    this.#cause ??= cause
    this.#socket.destroy()
  }

  #onData(chunk: Buffer): void {
    try {
      this.#parser.push(chunk)
    } catch (error) {
      this.destroy(asError(error))
    }
  }

  #onFrame(opcode: number, bytes: Buffer, start: number, end: number): void {
    if (this.#state === 'dialling' && opcode !== OPCODE.info && opcode !== OPCODE.error) {
      this.destroy(new Error(`the broker began with opcode ${opcode}, not with INFO`))
      this.#parser.stop()
      return
    }
    if (opcode === OPCODE.publish) this.#onMessage(bytes, start + 5, end)
    else if (opcode === OPCODE.error) {
      this.#brokerError = decodeErrorText(bytes, start + 5, end)
      this.#clearBrokerErrorLater()
      this.#events.onBrokerError(this.#brokerError)
    } else if (opcode === OPCODE.info && this.#state === 'dialling')
      this.#onInfo(bytes, start + 5, end)
    // Whatever else a broker may say is not for us.
  }

  #onInfo(bytes: Buffer, start: number, end: number): void {
    const { text: broker, end: at } = readShortText(bytes, start, end)
    const { ident, secret, settle } = this.#settings
    this.#timer.clear()
    this.#state = 'open'
    this.#writer.push(authFrame(ident, hashSecret(bytes.subarray(at, end), secret)))
    this.#events.onOpen(broker)
    if (settle === 0) this.#markAccepted()
    else this.#timer = afterSilence(settle, () => this.#markAccepted())
  }

  #markAccepted(): void {
    if (this.#state !== 'open' || this.#brokerError !== undefined) return
    this.#timer.clear()
    this.#state = 'accepted'
    this.#unacceptedFrames = []
    this.#unacceptedBytes = 0
    this.#events.onAccepted()
  }

  #clearBrokerErrorLater(): void {
    this.#brokerErrorTimer?.clear()
    this.#brokerErrorTimer = afterSilence(BROKER_ERROR_TIMEOUT_MS, () => {
      // While we do not read, the end may be there and not be seen.
      if (this.#socket.isPaused()) this.#clearBrokerErrorLater()
      else this.#clearBrokerError()
    })
  }

  /** The broker has complained, and goes on with us. */
  #clearBrokerError(): void {
    this.#brokerErrorTimer?.clear()
    this.#brokerError = undefined
    this.#markAccepted()
  }

  #onMessage(bytes: Buffer, start: number, end: number): void {
    const known = this.#prefix
    if (!hasPrefix(bytes, start, end, known)) {
      const ident = readShortText(bytes, start, end)
      const channel = readShortText(bytes, ident.end, end)
      this.#ident = ident.text
      this.#channel = channel.text
      this.#prefix = Buffer.from(bytes.subarray(start, channel.end))
    }
    // Messages come to those who were accepted only.
    if (this.#brokerError !== undefined) this.#clearBrokerError()
    else if (this.#state === 'open') this.#markAccepted()
    const payload = bytes.subarray(start + this.#prefix.length, end)
    this.#events.onMessage({ ident: this.#ident, channel: this.#channel, payload })
  }

  #onClose(): void {
    if (this.#state === 'ended') return
    const wasAccepted = this.#state === 'accepted'
    this.#state = 'ended'
    this.#timer.clear()
    this.#brokerErrorTimer?.clear()
    this.#parser.stop()
    this.#events.onEnd({
      reason: this.#cause ?? new Error('the broker closed the connection'),
      brokerError: this.#brokerError,
      wasAccepted,
      sentMessages: this.#sentMessages,
      unsentMessages: this.#unsentMessages,
      unacceptedFrames: this.#unacceptedFrames,
    })
  }
}

function openSocket({ host, port, path, tls }: FeedLinkSettings): Socket {
  const where = path === undefined ? { host, port } : { path }
  return tls === false ? dial(where) : dialTls({ ...where, ...(tls === true ? {} : tls) })
}

/** Whether these bytes begin with those; nothing begins with none. */
export function hasPrefix(bytes: Buffer, start: number, end: number, prefix: Buffer): boolean {
  const { length } = prefix
  if (length === 0 || end - start < length) return false
  for (let i = 0; i < length; i++) if (bytes[start + i] !== prefix[i]) return false
  return true
}

/** One known broker writes the length before the text, as in the other frames: it is no part of it. */
function decodeErrorText(bytes: Buffer, start: number, end: number): string {
  const first = bytes[start] as number
  const isLength = first === end - start - 1 && !/\w/.test(String.fromCharCode(first))
  return bytes.toString('utf8', isLength ? start + 1 : start, end)
}
