/** One connection of a client, from the dial to its end: the handshake, and what comes and goes. */
import { connect as dial, type Socket } from 'node:net'
import { connect as dialTls } from 'node:tls'
import { asError } from '../core/errors.ts'
import { afterSilence, type Timer } from '../core/time.ts'
import type { FeedTls } from './client-options.ts'
import { authFrame, FrameParser, OP, secretHash, shortText } from './frame.ts'
import type { FeedMessage } from './inbox.ts'
import { Writer } from './writer.ts'

export interface LinkSettings {
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
export interface LinkEvents {
  /** AUTH is sent: whatever is pushed now goes behind it. */
  onOpen(broker: string): void
  /** The broker has not objected, as far as the protocol can tell. */
  onAccepted(): void
  onMessage(message: FeedMessage): void
  /** Words of the broker; if it closes then, they were the reason. */
  onWords(words: string): void
  /** More may be pushed. */
  onDrain(): void
  onEnd(end: LinkEnd): void
}

export interface LinkEnd {
  readonly reason: Error
  /** Of the broker, where they were the reason. */
  readonly words: string | undefined
  readonly wasAccepted: boolean
  /** Messages that were pushed. */
  readonly pushed: number
  /** How many of them the system did not take. */
  readonly unsent: number
  /** All of them, where the broker had not accepted us: the next link may have them. */
  readonly early: readonly Buffer[]
}

/**
 * Bytes that may wait in the socket, or be sent to a broker that has not accepted us, before the rest waits with us,
 * where it can be dropped by the rules.
 */
const MOST_FLYING = 262_144
/** Milliseconds after which words were not the last ones, where the connection still stands. */
const LAST_WORDS = 5_000
/** As the original has it, in ms: Node's other two numbers are the system's. */
const KEEPALIVE = 10_000

export class Link {
  readonly #settings: LinkSettings
  readonly #events: LinkEvents
  readonly #socket: Socket
  readonly #writer: Writer
  readonly #parser: FrameParser
  #timer: Timer
  #state: 'dialling' | 'open' | 'accepted' | 'ended' = 'dialling'
  /** What the broker said last, for as long as it may be why it closes. */
  #words: string | undefined
  #forgiving: Timer | undefined
  #cause: Error | undefined
  /** Messages that were pushed while the broker has not accepted us. */
  #early: Buffer[] = []
  #earlyBytes = 0
  #pushed = 0
  #unsent = 0
  /** The beginning of the last message, and what it says: the next one mostly says the same. */
  #prefix = Buffer.alloc(0)
  #ident = ''
  #channel = ''

  constructor(settings: LinkSettings, events: LinkEvents) {
    this.#settings = settings
    this.#events = events
    this.#socket = open(settings)
    this.#socket.setNoDelay(true)
    this.#socket.setKeepAlive(true, KEEPALIVE)
    this.#writer = new Writer(this.#socket, (_, messages, failed) => {
      if (failed) this.#unsent += messages
      else if (this.isOpen) events.onDrain()
    })
    this.#parser = new FrameParser((...frame) => this.#take(...frame))
    const { connectTimeout } = settings
    this.#timer = afterSilence(connectTimeout, () =>
      this.destroy(new Error(`the broker said nothing within ${connectTimeout} ms`)),
    )
    this.#socket.on('data', (chunk: Buffer) => this.#read(chunk))
    this.#socket.on('error', (error) => {
      this.#cause ??= error
    })
    this.#socket.on('close', () => this.#ended())
  }

  get isOpen(): boolean {
    return this.#state === 'open' || this.#state === 'accepted'
  }

  /** Whether more may be pushed before `onDrain`. */
  get hasRoom(): boolean {
    return this.isOpen && this.#writer.pending < MOST_FLYING && this.#earlyBytes < MOST_FLYING
  }

  get pending(): number {
    return this.#writer.pending
  }

  /** A message. */
  send(frame: Buffer): void {
    this.#pushed++
    if (this.#state === 'open') {
      this.#early.push(frame)
      this.#earlyBytes += frame.length
    }
    this.#writer.push(frame, 1)
  }

  /** What is no message. */
  say(frame: Uint8Array): void {
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

  #read(chunk: Buffer): void {
    try {
      this.#parser.push(chunk)
    } catch (error) {
      this.destroy(asError(error))
    }
  }

  #take(opcode: number, bytes: Buffer, start: number, end: number): void {
    if (this.#state === 'dialling' && opcode !== OP.info && opcode !== OP.error) {
      this.destroy(new Error(`the broker began with opcode ${opcode}, not with INFO`))
      this.#parser.stop()
      return
    }
    if (opcode === OP.publish) this.#message(bytes, start + 5, end)
    else if (opcode === OP.error) {
      this.#words = wordsOf(bytes, start + 5, end)
      this.#forgiveLater()
      this.#events.onWords(this.#words)
    } else if (opcode === OP.info && this.#state === 'dialling') this.#hello(bytes, start + 5, end)
    // Whatever else a broker may say is not for us.
  }

  #hello(bytes: Buffer, start: number, end: number): void {
    const { text: broker, end: at } = shortText(bytes, start, end)
    const { ident, secret, settle } = this.#settings
    this.#timer.clear()
    this.#state = 'open'
    this.#writer.push(authFrame(ident, secretHash(bytes.subarray(at, end), secret)))
    this.#events.onOpen(broker)
    if (settle === 0) this.#accept()
    else this.#timer = afterSilence(settle, () => this.#accept())
  }

  #accept(): void {
    if (this.#state !== 'open' || this.#words !== undefined) return
    this.#timer.clear()
    this.#state = 'accepted'
    this.#early = []
    this.#earlyBytes = 0
    this.#events.onAccepted()
  }

  #forgiveLater(): void {
    this.#forgiving?.clear()
    this.#forgiving = afterSilence(LAST_WORDS, () => {
      // While we do not read, the end may be there and not be seen.
      if (this.#socket.isPaused()) this.#forgiveLater()
      else this.#forgive()
    })
  }

  /** The broker has complained, and goes on with us. */
  #forgive(): void {
    this.#forgiving?.clear()
    this.#words = undefined
    this.#accept()
  }

  #message(bytes: Buffer, start: number, end: number): void {
    const known = this.#prefix
    if (!startsWith(bytes, start, end, known)) {
      const ident = shortText(bytes, start, end)
      const channel = shortText(bytes, ident.end, end)
      this.#ident = ident.text
      this.#channel = channel.text
      this.#prefix = Buffer.from(bytes.subarray(start, channel.end))
    }
    // Messages come to those who were accepted only.
    if (this.#words !== undefined) this.#forgive()
    else if (this.#state === 'open') this.#accept()
    const payload = bytes.subarray(start + this.#prefix.length, end)
    this.#events.onMessage({ ident: this.#ident, channel: this.#channel, payload })
  }

  #ended(): void {
    if (this.#state === 'ended') return
    const wasAccepted = this.#state === 'accepted'
    this.#state = 'ended'
    this.#timer.clear()
    this.#forgiving?.clear()
    this.#parser.stop()
    this.#events.onEnd({
      reason: this.#cause ?? new Error('the broker closed the connection'),
      words: this.#words,
      wasAccepted,
      pushed: this.#pushed,
      unsent: this.#unsent,
      early: this.#early,
    })
  }
}

function open({ host, port, path, tls }: LinkSettings): Socket {
  const where = path === undefined ? { host, port } : { path }
  return tls === false ? dial(where) : dialTls({ ...where, ...(tls === true ? {} : tls) })
}

/** Whether these bytes begin with those; nothing begins with none. */
export function startsWith(bytes: Buffer, start: number, end: number, known: Buffer): boolean {
  const { length } = known
  if (length === 0 || end - start < length) return false
  for (let i = 0; i < length; i++) if (bytes[start + i] !== known[i]) return false
  return true
}

/** One known broker writes the length before the text, as in the other frames: it is no part of it. */
function wordsOf(bytes: Buffer, start: number, end: number): string {
  const first = bytes[start] as number
  const isLength = first === end - start - 1 && !/\w/.test(String.fromCharCode(first))
  return bytes.toString('utf8', isLength ? start + 1 : start, end)
}
