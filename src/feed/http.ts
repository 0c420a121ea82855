/**
 * The feed over HTTP, for browsers and curl: `GET ?channel=a&channel=b` is a stream of server-sent events (WHATWG HTML,
 * section 9.2), `POST ?channel=a` publishes its body. The same identities, by Basic or Bearer.
 */

import { isUtf8 } from 'node:buffer'
import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { destroyResponse } from '../core/http/http-server.ts'
import { milliseconds, parseOptions, whole } from '../core/options.ts'
import { every } from '../core/time.ts'
import type { Feed } from './broker.ts'
import type { KeptMessage } from './channels.ts'
import type { Identity } from './rights.ts'

export interface FeedHandlerOptions {
  /** Bytes of a message. @default 1000000 */
  readonly bodySize?: number
  /** Streams at a time. @default 1000 */
  readonly streams?: number
  /** Bytes that may wait for a slow reader; then its stream ends, and it resumes. @default 1048576 */
  readonly bufferLimit?: number
  /** Milliseconds between two comments that keep a stream open. @default 15000 */
  readonly keepAlive?: number
  /** Channels of one stream. @default 100 */
  readonly channels?: number
}

/** Every option. docs/feed.md is held against this by a test. */
export const HANDLER_RULES = {
  bodySize: whole(0, 1_000_000, { unit: 'bytes' }),
  streams: whole(1, 1_000),
  bufferLimit: whole(1_024, 1_048_576, { unit: 'bytes' }),
  keepAlive: milliseconds(15_000),
  channels: whole(1, 100),
} as const

/** To be mounted at any prefix: it looks at the query alone. */
export type FeedHandler = (req: IncomingMessage, res: ServerResponse) => void

/** Ids of events are of one life of the feed: after a restart the sequence begins anew. */
function formatEventId(epoch: string, sequence: number): string {
  return `${epoch}-${sequence}`
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function feedHandler(feed: Feed, options: FeedHandlerOptions = {}): FeedHandler {
  const settings = parseOptions('feedHandler', options, HANDLER_RULES)
  const epoch = randomBytes(4).toString('hex')
  let streams = 0

  const answer = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const url = new URL(req.url ?? '/', 'http://feed')
    const names = [...new Set(url.searchParams.getAll('channel'))]
    if (req.method !== 'GET' && req.method !== 'POST') {
      return sendProblem(res, 405, 'GET is a stream of events, POST publishes', {
        allow: 'GET, POST',
      })
    }
    let identity: Identity | undefined
    try {
      identity = await authenticateRequest(feed, req)
    } catch {
      return sendProblem(res, 503, 'identities cannot be looked up now', { 'retry-after': '5' })
    }
    if (!identity) {
      const challenge = 'Basic realm="feed", charset="UTF-8", Bearer realm="feed"'
      return sendProblem(res, 401, 'no or wrong credentials', { 'www-authenticate': challenge })
    }
    if (feed.isClosed) return sendProblem(res, 503, 'the feed is closed')
    if (names.length === 0) return sendProblem(res, 400, 'the query has no channel')
    if (names.length > settings.channels || names.some((name) => Buffer.byteLength(name) > 255)) {
      return sendProblem(res, 400, `${settings.channels} channels of 255 bytes at most`)
    }
    const what = req.method === 'GET' ? 'subscribe' : 'publish'
    const refused = names.find((name) => !feed.isAllowed(identity, what, name))
    if (refused !== undefined) {
      return sendProblem(res, 403, `${identity.ident} may not ${what} ${JSON.stringify(refused)}`)
    }
    if (what === 'publish') return publish(req, res, names, identity)
    if (streams >= settings.streams)
      return sendProblem(res, 503, 'too many streams', { 'retry-after': '5' })
    stream(req, res, names, url)
  }

  const publish = async (
    req: IncomingMessage,
    res: ServerResponse,
    names: readonly string[],
    { ident }: Identity,
  ): Promise<void> => {
    const chunks: Buffer[] = []
    let size = 0
    // A body that is given up must not take the connection with it before the answer is out.
    for await (const chunk of req.iterator({ destroyOnReturn: false })) {
      size += chunk.length
      if (size > settings.bodySize) {
        return sendProblem(res, 413, `a message has ${settings.bodySize} bytes at most`, {
          connection: 'close',
        })
      }
      chunks.push(chunk)
    }
    if (feed.isClosed) return sendProblem(res, 503, 'the feed is closed')
    const payload = Buffer.concat(chunks, size)
    for (const name of names) feed.publish(name, payload, ident)
    res.writeHead(204).end()
  }

  const stream = (
    req: IncomingMessage,
    res: ServerResponse,
    names: readonly string[],
    url: URL,
  ): void => {
    streams++
    res.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    })
    const write = (message: KeptMessage): void => {
      if (!res.destroyed && !res.writableEnded) {
        res.write(formatEvent(formatEventId(epoch, message.sequence), message))
      }
    }
    const lastId =
      getFirstValue(req.headers['last-event-id']) ?? url.searchParams.get('lastEventId')
    // Nothing is told between the look at the history and the subscription: both happen in this turn.
    sendMissedMessages(feed, res, { names, epoch, lastId, send: write })
    // What was resumed is bounded by the history, and does not count: else who resumes would be cut again and again.
    const limit = settings.bufferLimit + res.writableLength
    const send = (message: KeptMessage): void => {
      write(message)
      // Cut, a reader comes again: with its last id it misses no more than the history does.
      if (res.writableLength > limit) destroyResponse(res)
    }
    const offs = names.map((name) => feed.subscribe(name, send))
    const timer = every(settings.keepAlive, () => res.write(':\n\n'))
    const forget = feed.onClose(() => res.end())
    const mayStill = async (): Promise<boolean> => {
      const identity = await authenticateRequest(feed, req)
      return (
        identity !== undefined && names.every((name) => feed.isAllowed(identity, 'subscribe', name))
      )
    }
    const ignore = feed.onReview(() => {
      // A source that cannot tell changes nothing, as it does for peers of hpfeeds.
      mayStill().then(
        (may) => may || res.end(),
        () => undefined,
      )
    })
    res.on('error', () => undefined)
    res.once('close', () => {
      streams--
      timer.clear()
      forget()
      ignore()
      for (const off of offs) off()
    })
  }

  return (req, res) => {
    answer(req, res).catch(() => {
      // The body broke off.
      if (res.headersSent) destroyResponse(res)
      else sendProblem(res, 500, 'the request could not be answered')
    })
  }
}

interface StreamResumption {
  readonly names: readonly string[]
  readonly epoch: string
  readonly lastId: string | null
  readonly send: (message: KeptMessage) => void
}

/** What was missed, as far as it is kept; `gap` says that some of it is not. */
function sendMissedMessages(
  feed: Feed,
  res: ServerResponse,
  { names, epoch, lastId, send }: StreamResumption,
): void {
  if (!lastId) {
    // An event with an id and no data tells nobody, but is where a browser resumes if nothing else came.
    res.write(`retry: 2000\nid: ${formatEventId(epoch, feed.sequence)}\n\n`)
    return
  }
  res.write('retry: 2000\n\n')
  const match = /^([0-9a-f]{8})-(\d{1,15})$/.exec(lastId)
  const isOurs = match?.[1] === epoch
  const { messages, isWhole } = feed.messagesSince(names, isOurs ? Number(match[2]) : 0)
  if (!isOurs || !isWhole) res.write('event: gap\ndata: {"reason":"not all is kept"}\n\n')
  for (const message of messages) send(message)
}

/** Texts are told as they are, all else in base64. */
function formatEvent(id: string, { ident, channel, payload }: KeptMessage): string {
  const isText = isUtf8(payload)
  const data = JSON.stringify({
    ident,
    channel,
    ...(isText ? { text: payload.toString() } : { base64: payload.toString('base64') }),
  })
  return `id: ${id}\nevent: message\ndata: ${data}\n\n`
}

/** Basic has ident and secret; Bearer has both as well, as `ident:secret` in base64url. */
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

function sendProblem(
  res: ServerResponse,
  status: number,
  detail: string,
  headers: Record<string, string> = {},
): void {
  const body = JSON.stringify({ status, title: 'feed', detail })
  res.writeHead(status, { 'content-type': 'application/problem+json', ...headers }).end(body)
}
