/** One connection of a client, from the dial to its end: the handshake, and the frames in both directions. */
import { connect as dial, type Socket } from 'node:net'
import { connect as dialTls } from 'node:tls'
import { asError } from '../core/errors.ts'
import { afterSilence, type Timer } from '../core/time.ts'
import { BatchWriter } from './batch-writer.ts'
import type { FeedClientSettings } from './client-options.ts'
import {
  authFrame,
  FrameParser,
  HEADER_BYTES,
  hashSecret,
  hasPrefix,
  OPCODE,
  readShortText,
} from './frame.ts'
import type { FeedMessage } from './inbox.ts'

export type FeedLinkSettings = Pick<
  FeedClientSettings,
  'host' | 'port' | 'path' | 'ident' | 'secret' | 'tls' | 'connectTimeout' | 'settle'
>

/** The events of a link. `onEnd` is the last one. */
export interface FeedLinkEvents {
  /** AUTH is sent: frames that are sent now follow it. */
  onOpen(broker: string): void
  /** The broker has not objected, as far as the protocol can tell. */
  onAccepted(): void
  onMessage(message: FeedMessage): void
  /** An error message of the broker. If the broker closes soon after it, the message was the reason. */
  onBrokerError(message: string): void
  /** More messages may be sent. */
  onDrain(): void
  onEnd(end: FeedLinkEnd): void
}

export interface FeedLinkEnd {
  readonly reason: Error
  /** The broker's error message, if it was the reason. */
  readonly brokerError: string | undefined
  readonly wasAccepted: boolean
  /** Messages that were handed to this link. */
  readonly sentMessages: number
  /** How many of them the system did not take. */
  readonly unsentMessages: number
  /** All of them, if the broker had not accepted us: they can be sent over the next link. */
  readonly unacceptedFrames: readonly Buffer[]
}

/**
 * Maximum bytes that wait in the socket, and maximum bytes that are sent to a broker that has not accepted us. Further
 * messages wait in the client's outbox, where its limit and its drop policy apply.
 */
const MAX_IN_FLIGHT_BYTES = 262_144
/** If the connection is still open this many milliseconds after an error message, the message was not a final one. */
const BROKER_ERROR_TIMEOUT_MS = 5_000
/** As in the original. Node leaves the other two numbers of TCP's keep-alive to the system. */
const KEEPALIVE_DELAY_MS = 10_000

export class FeedLink {
  readonly #settings: FeedLinkSettings
  readonly #events: FeedLinkEvents
  readonly #socket: Socket
  readonly #writer: BatchWriter
  readonly #parser: FrameParser
  #timer: Timer
  #state: 'dialling' | 'open' | 'accepted' | 'ended' = 'dialling'
  /** The broker's last error message, while it may still be the reason for an end of the connection. */
  #brokerError: string | undefined
  #brokerErrorTimer: Timer | undefined
  #cause: Error | undefined
  /** Messages that were sent while the broker had not accepted us. */
  #unacceptedFrames: Buffer[] = []
  #unacceptedBytes = 0
  #sentMessages = 0
  #unsentMessages = 0
  /** The beginning of the last message's body, and what it means: the next message mostly begins in the same way. */
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
      this.destroy(new Error(`the broker sent nothing within ${connectTimeout} ms`)),
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

  /** Whether more messages may be sent before `onDrain`. */
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

  /** Sends a PUBLISH frame. */
  sendMessage(frame: Buffer): void {
    this.#sentMessages++
    if (this.#state === 'open') {
      this.#unacceptedFrames.push(frame)
      this.#unacceptedBytes += frame.length
    }
    this.#writer.push(frame, 1)
  }

  /** Sends a frame that is no message. */
  sendControl(frame: Uint8Array): void {
    this.#writer.push(frame)
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  /** Half-closes the connection: the broker reads what was sent, answers with an error or not, and closes. */
  end(): void {
    this.#writer.flush()
    this.#socket.end()
    // The broker's further messages are dropped, but the end of the connection must be seen.
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
      this.destroy(new Error(`the broker began with opcode ${opcode} instead of INFO`))
      this.#parser.stop()
      return
    }
    if (opcode === OPCODE.publish) this.#onMessage(bytes, start + HEADER_BYTES, end)
    else if (opcode === OPCODE.error) {
      this.#brokerError = decodeErrorText(bytes, start + HEADER_BYTES, end)
      this.#clearBrokerErrorLater()
      this.#events.onBrokerError(this.#brokerError)
    } else if (opcode === OPCODE.info && this.#state === 'dialling')
      this.#onInfo(bytes, start + HEADER_BYTES, end)
    // Frames that only a client sends are ignored.
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
      // While the socket is paused, the end of the connection may have arrived without being seen.
      if (this.#socket.isPaused()) this.#clearBrokerErrorLater()
      else this.#clearBrokerError()
    })
  }

  /** The connection outlived the error message, so that the message was not a final one. */
  #clearBrokerError(): void {
    this.#brokerErrorTimer?.clear()
    this.#brokerError = undefined
    this.#markAccepted()
  }

  #onMessage(bytes: Buffer, start: number, end: number): void {
    if (!hasPrefix(bytes, start, end, this.#prefix)) {
      const ident = readShortText(bytes, start, end)
      const channel = readShortText(bytes, ident.end, end)
      this.#ident = ident.text
      this.#channel = channel.text
      this.#prefix = Buffer.from(bytes.subarray(start, channel.end))
    }
    // A broker sends messages only to clients that it has accepted.
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

/** One known broker writes the text's length before it, as for the texts of other frames: that byte is skipped. */
function decodeErrorText(bytes: Buffer, start: number, end: number): string {
  const first = bytes[start] as number
  const isLength = first === end - start - 1 && !/\w/.test(String.fromCharCode(first))
  return bytes.toString('utf8', isLength ? start + 1 : start, end)
}
