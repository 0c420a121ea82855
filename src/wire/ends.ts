/** The two objects of a link on this side: one posts to the peer, the other hosts what the peer posts. */
import type { Duplex } from 'node:stream'
import { createStageError } from './errors.ts'
import type { HoCo } from './hoco.ts'
import type { LinkCounts, PostedConversation, WirePeer } from './link-types.ts'
import type { LandingEnvironment } from './names.ts'
import { type ConversationOptions, END_OF_RESPONSE, type PoCo } from './poco.ts'
import { formatCall } from './repr.ts'
import type { BlobSource } from './source.ts'

/** Counts of a link since it began. */
export interface LinkStats {
  /** Conversations that this end, and the peer, have begun. */
  readonly posted: number
  readonly hosted: number
  /** Hosted conversations that failed, and errors that no caller waited for. */
  readonly failed: number
  readonly unobserved: number
  /** Conversations that are open now. */
  readonly pending: number
  readonly hosting: number
  readonly bytesIn: number
  readonly bytesOut: number
  /** Received bytes that wait to be taken. */
  readonly backlog: number
}

/** The link, as its two ends see it. */
interface LinkOfEnds {
  readonly isUp: boolean
  readonly peer: WirePeer
  readonly socket: Duplex
  readonly closed: Promise<string | undefined>
  readonly pending: ReadonlyMap<string, PostedConversation>
  readonly hosted: { readonly size: number }
  readonly counts: LinkCounts
  readonly unacknowledged: readonly unknown[]
  readonly sender: { readonly sentBytes: number }
  readonly demultiplexer: { readonly backlog: number }
  readonly environment: LandingEnvironment
  readonly currentConversation: object | undefined
  assertUp(): void
  postConversation(options?: ConversationOptions): Promise<PoCo>
  disconnect(reason?: string, tellPeer?: boolean): Promise<void>
  release(): Promise<Duplex>
}

abstract class WireEnd {
  protected readonly link: LinkOfEnds

  constructor(link: LinkOfEnds) {
    this.link = link
  }

  get isConnected(): boolean {
    return this.link.isUp
  }

  /** What is known of the peer: whether it is manyhost too, whether it has proved that it has the key, and its name. */
  get peer(): Readonly<WirePeer> {
    return this.link.peer
  }

  /** The addresses of both ends, for logs. */
  get netIdent(): string {
    const { localAddress, localPort, remoteAddress, remotePort } = getSocketAddresses(
      this.link.socket,
    )
    return remoteAddress
      ? `${localAddress}:${localPort}<=>${remoteAddress}:${remotePort}`
      : 'a local socket'
  }

  /**
   * Ends the link. With a reason it is an error, and the reason is sent to the peer unless `tryTellPeer` is false. Open
   * conversations fail with MANYHOST_WIRE_CLOSED. Resolves when the connection is closed. Idempotent.
   */
  async disconnect(reason?: string, tryTellPeer = true): Promise<void> {
    await this.link.disconnect(reason, tryTellPeer)
  }

  /** Resolves with the reason, if there is one, when the connection is closed. */
  waitDisconnected(): Promise<string | undefined> {
    return this.link.closed
  }

  /**
   * Releases the connection for another protocol. Both ends must call it. When all conversations are done, it resolves with
   * the socket, paused: the first bytes to read are the first that the peer writes in the other protocol.
   * @throws ManyhostError MANYHOST_WIRE_STAGE with an original peer, MANYHOST_WIRE_CLOSED
   */
  release(): Promise<Duplex> {
    return this.link.release()
  }
}

/** Posts conversations. */
export class PostingEnd extends WireEnd {
  get remoteAddr(): string | undefined {
    const { remoteAddress, remotePort } = getSocketAddresses(this.link.socket)
    return remoteAddress && `${remoteAddress}:${remotePort}`
  }

  get remoteHost(): string | undefined {
    return getSocketAddresses(this.link.socket).remoteAddress
  }

  get remotePort(): number | undefined {
    return getSocketAddresses(this.link.socket).remotePort
  }

  /**
   * Begins a conversation when the send lock is free. With a function, the conversation ends when the function returns, and
   * is cancelled when it throws. Without one, use `await using co = await po.co()`, or call `co.close()`.
   * @throws ManyhostError MANYHOST_WIRE_CLOSED
   */
  co(options?: ConversationOptions): Promise<PoCo>
  co<T>(within: (co: PoCo) => T | Promise<T>, options?: ConversationOptions): Promise<T>
  async co<T>(
    first?: ConversationOptions | ((co: PoCo) => T | Promise<T>),
    second?: ConversationOptions,
  ): Promise<PoCo | T> {
    if (typeof first !== 'function') return this.link.postConversation(first)
    const co = await this.link.postConversation(second)
    try {
      const result = await first(co)
      co.close()
      return result
    } catch (error) {
      co.cancel(error as Error)
      throw error
    }
  }

  /** Posts code. Resolves when more may be sent, or with `waitAck` when the peer has done it. */
  async notif(code: string, options: NotifOptions = {}): Promise<void> {
    const co = await this.link.postConversation(this.#withDefaultJob(code, options))
    await this.#sendAndFinish(co, () => co.sendCode(code))
    if (options.waitAck) await co.waitCompleted()
  }

  /** Posts code, and a blob that the code receives. */
  async notifData(code: string, data: BlobSource, options: NotifOptions = {}): Promise<void> {
    const co = await this.link.postConversation(this.#withDefaultJob(code, options))
    await this.#sendAndFinish(co, async () => {
      await co.sendCode(code)
      await co.sendData(data)
    })
    if (options.waitAck) await co.waitCompleted()
  }

  /** Calls a function of the peer. Resolves with its result; undefined if it has none. */
  async call(name: string, ...args: readonly unknown[]): Promise<unknown> {
    return this.request(formatCall(name, args))
  }

  /** Posts code. Resolves with the first object of the response; undefined if there is none. */
  async request(code: string, options?: ConversationOptions): Promise<unknown> {
    const co = await this.link.postConversation(options && this.#withDefaultJob(code, options))
    await this.#sendAndFinish(co, () => co.sendCode(code), false)
    try {
      const value = await co.receiveNext()
      return value === END_OF_RESPONSE ? undefined : value
    } finally {
      co.close()
    }
  }

  /** The value of code at the peer, by a conversation of its own. */
  getObj(code: string, options?: ConversationOptions): Promise<unknown> {
    return this.co((co) => co.getObj(code), options)
  }

  /** Resolves when the peer has acknowledged all conversations posted so far. @throws ManyhostError MANYHOST_WIRE_CLOSED */
  async waitCompleted(): Promise<void> {
    await Promise.all([...this.link.pending.values()].map((co) => co.waitSettled()))
    if (this.link.pending.size > 0) this.link.assertUp()
  }

  /** Jobs of the conversations that were not acknowledged when the link ended, oldest first. */
  unacknowledged(): unknown[] {
    return [...this.link.unacknowledged]
  }

  /** Counts of the link since it began. */
  stats(): LinkStats {
    const { posted, hosted, failed, unobserved, received } = this.link.counts
    return {
      posted,
      hosted,
      failed,
      unobserved,
      pending: this.link.pending.size,
      hosting: this.link.hosted.size,
      bytesIn: received,
      bytesOut: this.link.sender.sentBytes,
      backlog: this.link.demultiplexer.backlog,
    }
  }

  #withDefaultJob(code: string, options: ConversationOptions): ConversationOptions {
    return 'job' in options ? options : { ...options, job: code }
  }

  async #sendAndFinish(co: PoCo, send: () => Promise<void>, isClosed = true): Promise<void> {
    try {
      await send()
      if (isClosed) co.close()
      else co.finishSend()
    } catch (error) {
      co.cancel(error as Error)
      throw error
    }
  }
}

export interface NotifOptions extends ConversationOptions {
  /** Whether to resolve only when the peer has done all of it. @default false */
  waitAck?: boolean
}

/** Hosts the conversations that the peer posts. */
export class HostingEnd extends WireEnd {
  /**
   * The conversation that called the running function; for code in a response, the posted conversation that it answers. It
   * is known until the function's first `await`: keep it in a constant.
   * @throws ManyhostError MANYHOST_WIRE_STAGE
   */
  get co(): HoCo {
    const { currentConversation: current } = this.link
    if (!current)
      throw createStageError(
        'ho.co is known only until the first await of a hosted function: keep it in a constant before that',
      )
    return current as HoCo
  }

  get localAddr(): string | undefined {
    const { localAddress, localPort } = getSocketAddresses(this.link.socket)
    return localAddress && `${localAddress}:${localPort}`
  }

  get localHost(): string | undefined {
    return getSocketAddresses(this.link.socket).localAddress
  }

  get localPort(): number | undefined {
    return getSocketAddresses(this.link.socket).localPort
  }

  /** Names that the peer may call or read. */
  get exposedNames(): readonly string[] {
    return this.link.environment.exposedNames
  }

  /** An exposed value, or one that the peer assigned (`my_name = 'Nick'`). */
  get(name: string): unknown {
    return this.link.environment.getValue(name)
  }
}

interface SocketAddresses {
  localAddress?: string
  localPort?: number
  remoteAddress?: string
  remotePort?: number
}

function getSocketAddresses(socket: Duplex): SocketAddresses {
  return socket as SocketAddresses
}
