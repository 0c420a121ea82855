/** One connection to a broker: who it is, what it may, what it hears, and what waits for it. */
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { asError } from '../core/errors.ts'
import { afterIdly, afterSilence, type Timer } from '../core/time.ts'
import type { Channel, Channels, Subscriber } from './channels.ts'
import { errorFrame, FrameParser, HEADER, infoFrame, OP, shortText, textOf } from './frame.ts'
import { startsWith } from './link.ts'
import { allows, type Identity, isThenable, proves } from './rights.ts'
import type { Category, IdentStats, RouteStats, Stats } from './stats.ts'
import { TIMED_OUT, uncheckedWords } from './words.ts'
import { Writer } from './writer.ts'

export interface PeerSettings {
  readonly name: string
  readonly nonceSize: number
  readonly patterns: boolean
  /** Bytes that may wait for a slow reader; half of it starts the deadline. */
  readonly bufferLimit: number
  readonly deadline: number
  readonly authTimeout: number
  /** A secret that nobody has. */
  readonly decoy: string
}

/** What peers share. */
export interface Hub {
  /** Of now: they may be others later. */
  settings: PeerSettings
  readonly channels: Channels
  readonly stats: Stats
  find(ident: string): Identity | undefined | Promise<Identity | undefined>
  refused(peer: Peer, category: Category, words: string, cause?: Error): void
  ready(peer: Peer): void
  gone(peer: Peer): void
}

/** Longest frame of those who have not said who they are. */
const FIRST_FRAME = HEADER + 256 + 20
/** Milliseconds that last words may take to be sent. */
const FAREWELL = 1_000
const KEEPALIVE = 10_000
/** Beginnings that are known again without being read. */
const MOST_ROUTES = 8
const MOST_SUBSCRIPTIONS = 10_000

/** Where the messages of this connection with one beginning go. */
interface Route {
  readonly channel: string
  readonly prefix: Buffer
  readonly stats: RouteStats
}

export class Peer implements Subscriber {
  readonly address: string
  readonly #hub: Hub
  readonly #socket: Socket
  readonly #writer: Writer
  readonly #parser: FrameParser
  readonly #nonce: Buffer
  readonly #channels = new Set<Channel>()
  #state: 'new' | 'checking' | 'ready' | 'ended' = 'new'
  #identity: Identity | undefined
  #stats: IdentStats
  #timer: Timer | undefined
  /** Frames that came behind AUTH while it is looked up. */
  #early: Buffer[] = []
  /** It says nothing more. */
  #isMute = false
  #route: Route | undefined
  readonly #routes: Route[] = []
  /** Messages that lie one behind the other in `#runBytes`, all of `#route`: they go on in one piece. */
  #runBytes: Buffer | undefined
  #runStart = 0
  #runEnd = 0
  #runCount = 0

  constructor(socket: Socket, hub: Hub) {
    this.#hub = hub
    this.#socket = socket
    // Of a unix socket there is no address.
    this.address = socket.remoteAddress ? `${socket.remoteAddress} ${socket.remotePort}` : 'unix'
    this.#stats = hub.stats.ident('')
    this.#writer = new Writer(socket, (bytes) => this.#drained(bytes))
    this.#parser = new FrameParser((...frame) => this.#take(...frame))
    this.#parser.limit = FIRST_FRAME
    const { name, nonceSize, authTimeout } = hub.settings
    this.#nonce = randomBytes(nonceSize)
    socket.setKeepAlive(true, KEEPALIVE)
    socket.on('data', (chunk: Buffer) => this.#read(chunk))
    socket.on('error', () => undefined)
    // What was said before a hang-up counts, however long it takes to know who said it.
    socket.allowHalfOpen = true
    socket.on('end', () => this.#hungUp())
    socket.on('close', () => this.#closed())
    this.#timer = afterSilence(authTimeout, () => this.#late(authTimeout))
    this.#writer.push(infoFrame(name, this.#nonce))
  }

  /** '' until it has proved it. */
  get ident(): string {
    return this.#identity?.ident ?? ''
  }

  get subscriptions(): ReadonlySet<Channel> {
    return this.#channels
  }

  /** Bytes that wait to be sent. */
  get pending(): number {
    return this.#writer.pending
  }

  /** Bytes of a frame that is not whole yet. */
  get held(): number {
    return this.#parser.held
  }

  /** Frames for it. A reader that is too slow for them does without: it is told by the deadline. */
  send(frames: Buffer, messages: number): void {
    if (this.#state !== 'ready') return
    const { bufferLimit } = this.#hub.settings
    const pending = this.#writer.pending + frames.length
    if (pending > bufferLimit) {
      this.#stats.dropped += messages
      return
    }
    this.#stats.queued += frames.length
    this.#writer.push(frames)
    if (pending > bufferLimit / 2 && !this.#timer) {
      this.#stats.deadlineStarts++
      this.#timer = afterSilence(this.#hub.settings.deadline, () =>
        this.refuse('deadline-timer-expired', 'Backpressure deadline timer expired'),
      )
    }
  }

  #drained(bytes: number): void {
    this.#stats.drained += bytes
    if (this.#state !== 'ready' || !this.#timer) return
    if (this.#writer.pending > this.#hub.settings.bufferLimit / 8) return
    this.#timer.clear()
    this.#timer = undefined
    this.#stats.deadlineRecoveries++
  }

  /** Ends it after what waits for it, in `grace` ms at most. */
  end(grace: number): void {
    this.#leave()
    this.#writer.flush()
    this.#socket.end()
    this.#socket.resume()
    this.#timer = afterIdly(grace, () => this.#socket.destroy())
  }

  /** Last words, and the end. */
  refuse(category: Category, words: string, cause?: Error): void {
    if (this.#state === 'ended') return
    this.#hub.refused(this, category, words, cause)
    if (words !== '') this.#writer.push(errorFrame(words))
    this.end(FAREWELL)
  }

  #read(chunk: Buffer): void {
    if (this.#state === 'ended') return
    this.#stats.received += chunk.length
    try {
      this.#parser.push(chunk)
    } catch (error) {
      // The original closes without a word, too.
      this.#deliver()
      this.refuse('invalid-frame', '', asError(error))
      return
    }
    this.#deliver()
  }

  #take(opcode: number, bytes: Buffer, start: number, end: number): void {
    if (this.#state === 'ready') {
      if (opcode === OP.publish) this.#publish(bytes, start, end)
      else this.#ask(opcode, bytes, start + HEADER, end)
    } else if (this.#state === 'checking') {
      this.#early.push(Buffer.from(bytes.subarray(start, end)))
    } else if (this.#state === 'new') {
      if (opcode === OP.auth) this.#check(bytes, start + HEADER, end)
      else this.refuse('invalid-first-message', 'First message was not AUTH')
    }
  }

  #ask(opcode: number, bytes: Buffer, start: number, end: number): void {
    // What was published before is not late for those who are heard before.
    this.#deliver()
    if (opcode === OP.auth) {
      this.refuse('second-auth', 'Already authenticated')
    } else if (opcode === OP.subscribe || opcode === OP.unsubscribe) {
      const { end: at } = shortText(bytes, start, end)
      const name = textOf(bytes, at, end)
      if (opcode === OP.subscribe) this.#subscribe(name)
      else this.#unsubscribe(name)
    }
    // ERROR and INFO of a client mean nothing, and are let pass as the original does.
  }

  #check(bytes: Buffer, start: number, end: number): void {
    const { text: ident, end: at } = shortText(bytes, start, end)
    const hash = Buffer.from(bytes.subarray(at, end))
    this.#state = 'checking'
    this.#parser.limit = Number.POSITIVE_INFINITY
    let found: Identity | undefined | Promise<Identity | undefined>
    try {
      found = this.#hub.find(ident)
    } catch (error) {
      this.#notChecked(ident, error)
      return
    }
    if (!isThenable(found)) {
      this.#judge(ident, hash, found)
      return
    }
    this.#socket.pause()
    Promise.resolve(found)
      .then((identity) => {
        this.#judge(ident, hash, identity)
        this.#socket.resume()
      })
      .catch((error) => this.#notChecked(ident, error))
  }

  #late(authTimeout: number): void {
    if (this.#state !== 'checking') this.refuse('auth-timeout', TIMED_OUT)
    else {
      const cause = new Error(`the identities gave no answer within ${authTimeout} ms`)
      this.refuse('error-checking-ident', TIMED_OUT, cause)
    }
  }

  #notChecked(ident: string, error: unknown): void {
    this.refuse('error-checking-ident', uncheckedWords(ident), asError(error))
  }

  #judge(ident: string, hash: Buffer, identity: Identity | undefined): void {
    if (this.#state !== 'checking') return
    if (!proves(hash, this.#nonce, identity, this.#hub.settings.decoy) || !identity) {
      const category = identity ? 'invalid-secret' : 'invalid-ident'
      this.refuse(category, `Authentication failed for ${ident}`)
      return
    }
    this.#timer?.clear()
    this.#timer = undefined
    this.#identity = identity
    this.#stats = this.#hub.stats.ident(identity.ident)
    this.#stats.ready++
    this.#state = 'ready'
    this.#hub.ready(this)
    const early = this.#early
    this.#early = []
    try {
      for (const frame of early) this.#take(frame[4] as number, frame, 0, frame.length)
    } catch (error) {
      this.refuse('invalid-frame', '', asError(error))
    }
    this.#deliver()
    if (this.#isMute) this.#hungUp()
  }

  /** What is known of it is this from now on: who it is not any more, or what it may not, ends it. */
  review(identity: Identity | undefined): void {
    if (this.#state !== 'ready') return
    const { ident } = this
    if (!identity || identity.secret !== this.#identity?.secret) {
      const category = identity ? 'invalid-secret' : 'invalid-ident'
      this.refuse(category, `Authentication failed for ${ident}`)
      return
    }
    this.#identity = identity
    this.#route = undefined
    this.#routes.length = 0
    for (const { name } of this.#channels) if (!this.#mayHear(name)) return
  }

  #hungUp(): void {
    this.#isMute = true
    if (this.#state !== 'checking' && this.#state !== 'ended') {
      this.end(this.#hub.settings.deadline)
    }
  }

  #publish(bytes: Buffer, start: number, end: number): void {
    let route = this.#route
    if (!route || !startsWith(bytes, start + HEADER, end, route.prefix)) {
      this.#deliver()
      route =
        this.#routes.find(({ prefix }) => startsWith(bytes, start + HEADER, end, prefix)) ??
        this.#routeOf(bytes, start + HEADER, end)
      this.#route = route
      if (!route) return
    }
    route.stats.add(end - start - HEADER - route.prefix.length)
    if (this.#runBytes === bytes && this.#runEnd === start) {
      this.#runEnd = end
      this.#runCount++
      return
    }
    this.#deliver()
    this.#runBytes = bytes
    this.#runStart = start
    this.#runEnd = end
    this.#runCount = 1
  }

  #routeOf(bytes: Buffer, start: number, end: number): Route | undefined {
    const { text: ident, end: at } = shortText(bytes, start, end)
    if (ident !== this.ident) {
      this.refuse('ident-mismatch-pub', `Invalid authkey in message, ident=${ident}`)
      return undefined
    }
    const { text: channel, end: stop } = shortText(bytes, at, end)
    if (!allows(this.#identity?.publish ?? [], channel, this.#hub.settings.patterns)) {
      const words = `Authkey not allowed to pub here. ident=${ident}, chan=${channel}`
      this.refuse('no-pub-permission', words)
      return undefined
    }
    const prefix = Buffer.from(bytes.subarray(start, stop))
    const route = { channel, prefix, stats: this.#hub.stats.route(ident, channel) }
    if (this.#routes.unshift(route) > MOST_ROUTES) this.#routes.pop()
    return route
  }

  /** Passes the run on as it came: what a subscriber gets is byte for byte what the publisher sent. */
  #deliver(): void {
    const bytes = this.#runBytes
    const route = this.#route
    if (!bytes || !route) return
    this.#runBytes = undefined
    const { channels } = this.#hub
    const frames = bytes.subarray(this.#runStart, this.#runEnd)
    const channel = channels.get(route.channel)
    if (channel) for (const one of channel.subscribers) one.send(frames, this.#runCount)
    if (!channels.wantsEach(channel)) return
    for (let at = 0; at < frames.length; ) {
      const end = at + frames.readInt32BE(at)
      const payload = frames.subarray(at + HEADER + route.prefix.length, end)
      channels.tell(route.channel, this.ident, payload)
      at = end
    }
  }

  /** If not, that is the end. */
  #mayHear(name: string): boolean {
    const { patterns } = this.#hub.settings
    const isAllowed = allows(this.#identity?.subscribe ?? [], name, patterns)
    const words = `Authkey not allowed to sub here. ident=${this.ident}, chan=${name}`
    if (!isAllowed) this.refuse('no-sub-permission', words)
    return isAllowed
  }

  #subscribe(name: string): void {
    if (!this.#mayHear(name)) return
    if (this.#channels.size >= MOST_SUBSCRIPTIONS) {
      this.refuse('too-many-subscriptions', `Too many subscriptions. ident=${this.ident}`)
      return
    }
    const channel = this.#hub.channels.ensure(name)
    channel.subscribers.add(this)
    this.#channels.add(channel)
  }

  #unsubscribe(name: string): void {
    const channel = this.#hub.channels.get(name)
    if (!channel || !this.#channels.delete(channel)) return
    channel.subscribers.delete(this)
    this.#hub.channels.release(channel)
  }

  /** Hears nothing and says nothing any more. */
  #leave(): void {
    this.#state = 'ended'
    this.#timer?.clear()
    this.#timer = undefined
    this.#parser.stop()
    this.#early = []
    this.#runBytes = undefined
    for (const channel of this.#channels) {
      channel.subscribers.delete(this)
      this.#hub.channels.release(channel)
    }
    this.#channels.clear()
  }

  #closed(): void {
    this.#leave()
    if (this.#identity) this.#stats.lost++
    this.#hub.gone(this)
  }
}
