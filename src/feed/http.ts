/**
 * The feed over HTTP, for browsers and curl: `GET ?channel=a&channel=b` is a stream of server-sent events (WHATWG HTML,
 * section 9.2), `POST ?channel=a` publishes its body. Identities are the broker's, by Basic or Bearer authentication.
 */
import { isUtf8 } from 'node:buffer'
import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { destroyResponse } from '../core/http/http-server.ts'
import { createProblem, sendProblem } from '../core/http/problem.ts'
import { milliseconds, type ParsedOptions, parseOptions, whole } from '../core/options.ts'
import type { RulesOf } from '../core/rules-of.ts'
import { every } from '../core/time.ts'
import type { Feed } from './broker.ts'
import type { KeptMessage } from './channels.ts'
import { isChannelName, MAX_NAME_BYTES } from './frame.ts'
import type { Identity } from './rights.ts'

export interface FeedHandlerOptions {
  /** Maximum bytes of a published message. @default 1000000 */
  readonly bodySize?: number
  /** Maximum number of open streams. @default 1000 */
  readonly streams?: number
  /** Maximum bytes that wait for a slow reader; beyond it the stream ends, and the reader resumes. @default 1048576 */
  readonly bufferLimit?: number
  /** Milliseconds between two comments that keep a stream open. @default 15000 */
  readonly keepAlive?: number
  /** Maximum number of channels of one request. @default 100 */
  readonly channels?: number
}

/** Every option. A test compares docs/feed.md with this table. */
export const HANDLER_RULES = {
  bodySize: whole(0, 1_000_000, { unit: 'bytes' }),
  streams: whole(1, 1_000),
  bufferLimit: whole(1_024, 1_048_576, { unit: 'bytes' }),
  keepAlive: milliseconds(15_000),
  channels: whole(1, 100),
} as const satisfies RulesOf<FeedHandlerOptions>

/** Can be mounted at any prefix: it reads only the query of the URL. */
export type FeedHandler = (req: IncomingMessage, res: ServerResponse) => void

/** A request whose identity may do what it asks for. */
interface AllowedRequest {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly query: URLSearchParams
  readonly channels: readonly string[]
  readonly identity: Identity
}

/** Seconds after which a refused client should try again. */
const RETRY_AFTER = { 'retry-after': '5' }
const CHALLENGE = {
  'www-authenticate': 'Basic realm="feed", charset="UTF-8", Bearer realm="feed"',
}
const EVENT_STREAM = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-store',
  'x-accel-buffering': 'no',
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function feedHandler(feed: Feed, options: FeedHandlerOptions = {}): FeedHandler {
  const handler = new FeedHttpHandler(feed, parseOptions('feedHandler', options, HANDLER_RULES))
  return (req, res) => handler.handle(req, res)
}

class FeedHttpHandler {
  readonly #feed: Feed
  readonly #settings: ParsedOptions<typeof HANDLER_RULES>
  /** Part of each event's id: after a restart the feed's sequence begins anew, so that older ids mean nothing. */
  readonly #epoch = randomBytes(4).toString('hex')
  #streamCount = 0

  constructor(feed: Feed, settings: ParsedOptions<typeof HANDLER_RULES>) {
    this.#feed = feed
    this.#settings = settings
  }

  handle(req: IncomingMessage, res: ServerResponse): void {
    this.#answer(req, res).catch(() => {
      // The body broke off.
      sendProblem(res, createProblem(500, 'the request could not be answered'))
    })
  }

  async #answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const refuse = (status: number, detail: string, headers?: Record<string, string>): void =>
      sendProblem(res, createProblem(status, detail), headers)
    const { searchParams: query } = new URL(req.url ?? '/', 'http://feed')
    const channels = [...new Set(query.getAll('channel'))]
    if (req.method !== 'GET' && req.method !== 'POST') {
      return refuse(405, 'GET is a stream of events, POST publishes', { allow: 'GET, POST' })
    }
    let identity: Identity | undefined
    try {
      identity = await authenticateRequest(this.#feed, req)
    } catch {
      return refuse(503, 'identities cannot be looked up now', RETRY_AFTER)
    }
    if (!identity) return refuse(401, 'the credentials are missing or wrong', CHALLENGE)
    if (this.#feed.isClosed) return refuse(503, 'the feed is closed')
    if (channels.length === 0) return refuse(400, 'the query has no channel')
    const { channels: maxChannels, streams: maxStreams } = this.#settings
    if (channels.length > maxChannels || !channels.every(isChannelName)) {
      const limits = `at most ${maxChannels} channels of at most ${MAX_NAME_BYTES} bytes`
      return refuse(400, `${limits} are allowed`)
    }
    const action = req.method === 'GET' ? 'subscribe' : 'publish'
    const forbidden = channels.find((name) => !this.#feed.isAllowed(identity, action, name))
    if (forbidden !== undefined) {
      const what = `${action} to ${JSON.stringify(forbidden)}`
      return refuse(403, `${identity.ident} may not ${what}`)
    }
    const request = { req, res, query, channels, identity }
    if (action === 'publish') return this.#publish(request)
    if (this.#streamCount >= maxStreams) return refuse(503, 'too many streams', RETRY_AFTER)
    this.#stream(request)
  }

  async #publish({ req, res, channels, identity }: AllowedRequest): Promise<void> {
    const { bodySize } = this.#settings
    const chunks: Buffer[] = []
    let size = 0
    // Without `destroyOnReturn: false`, leaving this loop would destroy the connection before the answer is sent.
    for await (const chunk of req.iterator({ destroyOnReturn: false })) {
      size += chunk.length
      if (size > bodySize) {
        const problem = createProblem(413, `a message may have ${bodySize} bytes at most`)
        return sendProblem(res, problem, { connection: 'close' })
      }
      chunks.push(chunk)
    }
    if (this.#feed.isClosed) return sendProblem(res, createProblem(503, 'the feed is closed'))
    const payload = Buffer.concat(chunks, size)
    for (const channel of channels) this.#feed.publish(channel, payload, identity.ident)
    res.writeHead(204).end()
  }

  #stream(request: AllowedRequest): void {
    const { res, channels } = request
    this.#streamCount++
    res.writeHead(200, EVENT_STREAM)
    const write = (message: KeptMessage): void => {
      if (!res.destroyed && !res.writableEnded) res.write(this.#formatEvent(message))
    }
    // The history is read and the subscription made in one turn of the event loop, so that no message falls between.
    this.#sendMissedMessages(request, write)
    // Missed messages do not count: a reader that resumes with many would be cut off again and again.
    const limit = this.#settings.bufferLimit + res.writableLength
    const send = (message: KeptMessage): void => {
      write(message)
      // A reader that is cut off resumes with its last id, and misses only what the history does not keep.
      if (res.writableLength > limit) destroyResponse(res)
    }
    const unsubscribes = channels.map((channel) => this.#feed.subscribe(channel, send))
    const timer = every(this.#settings.keepAlive, () => res.write(':\n\n'))
    const offClose = this.#feed.onClose(() => res.end())
    const offReview = this.#feed.onReview(() => {
      // If the source cannot look up the identity, nothing changes, as for peers of hpfeeds.
      this.#isStillAllowed(request).then(
        (isAllowed) => isAllowed || res.end(),
        () => undefined,
      )
    })
    res.on('error', () => undefined)
    res.once('close', () => {
      this.#streamCount--
      timer.clear()
      offClose()
      offReview()
      for (const unsubscribe of unsubscribes) unsubscribe()
    })
  }

  async #isStillAllowed({ req, channels }: AllowedRequest): Promise<boolean> {
    const identity = await authenticateRequest(this.#feed, req)
    if (identity === undefined) return false
    return channels.every((channel) => this.#feed.isAllowed(identity, 'subscribe', channel))
  }

  /** Sends the missed messages that are kept. The event `gap` reports that some are not. */
  #sendMissedMessages(
    { req, res, query, channels }: AllowedRequest,
    write: (message: KeptMessage) => void,
  ): void {
    const lastId = getFirstValue(req.headers['last-event-id']) ?? query.get('lastEventId')
    if (!lastId) {
      // An event with an id and without data reaches no listener, but a browser resumes from it if no other event comes.
      res.write(`retry: 2000\nid: ${this.#formatId(this.#feed.sequence)}\n\n`)
      return
    }
    res.write('retry: 2000\n\n')
    const match = /^([0-9a-f]{8})-(\d{1,15})$/.exec(lastId)
    const isOurs = match?.[1] === this.#epoch
    const { messages, isWhole } = this.#feed.messagesSince(channels, isOurs ? Number(match[2]) : 0)
    if (!isOurs || !isWhole) res.write('event: gap\ndata: {"reason":"not all is kept"}\n\n')
    for (const message of messages) write(message)
  }

  #formatId(sequence: number): string {
    return `${this.#epoch}-${sequence}`
  }

  /** A payload that is UTF-8 becomes `text`, any other `base64`. */
  #formatEvent({ ident, channel, payload, sequence }: KeptMessage): string {
    const content = isUtf8(payload)
      ? { text: payload.toString() }
      : { base64: payload.toString('base64') }
    const data = JSON.stringify({ ident, channel, ...content })
    return `id: ${this.#formatId(sequence)}\nevent: message\ndata: ${data}\n\n`
  }
}

/** Basic carries ident and secret; Bearer carries both as well, as `ident:secret` in base64url. */
async function authenticateRequest(
  feed: Feed,
  { headers }: IncomingMessage,
): Promise<Identity | undefined> {
  const match = /^(basic|bearer) +([\w+/=~.-]+) *$/i.exec(headers.authorization ?? '')
  if (!match) return undefined
  const text = Buffer.from(match[2] as string, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  if (colon < 0) return undefined
  return feed.authenticate(text.slice(0, colon), text.slice(colon + 1))
}

function getFirstValue(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header
}
