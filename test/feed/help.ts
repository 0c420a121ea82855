/** What the tests of the feed share: a broker on a free port, and a peer that says whatever bytes it is told to. */
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { FeedOptions } from '../../src/feed/broker-options.ts'
import { authFrame, FrameParser, hashSecret, OPCODE, readShortText } from '../../src/feed/frame.ts'
import { Feed, FeedClient, type FeedClientOptions } from '../../src/feed/index.ts'
import { waitUntil } from '../help.ts'

/** alice may do all on ch1 and ch2, bob may hear ch1 only, eve may say ch1 only. */
export const IDENTITIES = {
  alice: { secret: 's3cret', publish: ['ch1', 'ch2'], subscribe: ['ch1', 'ch2'] },
  bob: { secret: 'b0b', subscribe: ['ch1'] },
  eve: { secret: 'ev3', publish: ['ch1'] },
}

export async function openFeed(options: FeedOptions = {}): Promise<Feed & { port: number }> {
  const feed = new Feed({ endpoints: '127.0.0.1:0', identities: IDENTITIES, ...options })
  const [url = ''] = await feed.listen()
  return Object.assign(feed, { port: portOf(url) })
}

export function portOf(url: string): number {
  return Number(/:(\d+)$/.exec(url)?.[1])
}

/** Where a broker can come again: unlike a port that was given up, it is nobody else's meanwhile. */
export function socketPath(): string {
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-feed-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return join(folder, 'feed.sock')
}

/** A client that does not wait long for anything. */
export function openFeedClient(
  where: number | string,
  ident: keyof typeof IDENTITIES = 'alice',
  options: Partial<FeedClientOptions> = {},
): FeedClient {
  const { secret } = IDENTITIES[ident]
  const at = typeof where === 'number' ? { port: where } : { path: where }
  return new FeedClient({ ...at, ident, secret, settle: 20, retryMin: 5, ...options })
}

export interface RawFrame {
  readonly opcode: number
  readonly body: Buffer
}

/** A peer of bytes. */
export class RawFeedPeer {
  readonly socket: Socket
  readonly frames: RawFrame[] = []
  isClosed = false

  constructor(where: number | string) {
    this.socket = typeof where === 'number' ? connect(where, '127.0.0.1') : connect(where)
    this.socket.on('error', () => undefined)
    this.socket.on('close', () => {
      this.isClosed = true
    })
    const parser = new FrameParser((opcode, bytes, start, end) => {
      this.frames.push({ opcode, body: Buffer.from(bytes.subarray(start + 5, end)) })
    })
    this.socket.on('data', (chunk: Buffer) => parser.push(chunk))
  }

  write(...bytes: readonly Buffer[]): void {
    this.socket.write(Buffer.concat(bytes))
  }

  /** The next frame, which is taken. */
  async next(): Promise<RawFrame> {
    await waitUntil(() => this.frames.length > 0, 'a frame')
    return this.frames.shift() as RawFrame
  }

  /** Answers the challenge. */
  async login(ident: string, secret: string): Promise<void> {
    this.write(await this.auth(ident, secret))
  }

  /** What answers the challenge. */
  async auth(ident: string, secret: string): Promise<Buffer> {
    const { opcode, body } = await this.next()
    if (opcode !== OPCODE.info) throw new Error(`opcode ${opcode} in place of INFO`)
    const { end } = readShortText(body, 0, body.length)
    return authFrame(ident, hashSecret(body.subarray(end), secret))
  }

  /** The words of the ERROR with which it ended; '' if there were none. */
  async words(): Promise<string> {
    await waitUntil(() => this.isClosed, 'the end of the connection')
    const error = this.frames.find(({ opcode }) => opcode === OPCODE.error)
    return error?.body.toString() ?? ''
  }
}

/** A figure of a feed. */
export async function readMetric(feed: Feed, name: string, labels: object = {}): Promise<number> {
  const metric = await feed.metrics.getSingleMetric(name)?.get()
  const found = metric?.values.find((one) =>
    Object.entries(labels).every(([key, value]) => (one.labels as never)[key] === value),
  )
  return found?.value ?? 0
}
