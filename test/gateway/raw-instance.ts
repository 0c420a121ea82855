/** An instance that answers in bytes, whatever they are, and a gateway in front of it. */
import { once } from 'node:events'
import { connect, type IncomingHttpHeaders } from 'node:http2'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { fixed } from '../../providers/static.ts'
import type { Cluster } from '../../src/cluster/cluster.ts'
import { createGateway, type GatewayOptions } from '../../src/gateway/index.ts'
import type { ServiceOptions } from '../../src/session/service.ts'
import { SessionCore } from '../../src/session/session.ts'
import { waitUntil } from '../help.ts'
import { connectRaw, onCleanup } from './gateway-fixture.ts'

/** A request as the instance read it. */
export interface RawRequestSeen {
  readonly head: string
  readonly body: string
}

/** Bytes, or what writes them. */
export type RawResponder = string | ((socket: Socket, seen: RawRequestSeen, count: number) => void)

export interface RawInstance {
  readonly url: string
  /** All requests, in the order in which they came whole. */
  readonly seen: RawRequestSeen[]
  readonly sockets: ReadonlySet<Socket>
}

export async function startRawInstance(answer: RawResponder): Promise<RawInstance> {
  const seen: RawRequestSeen[] = []
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => undefined)
    socket.on('end', () => socket.end())
    let held = ''
    socket.setEncoding('latin1')
    socket.on('data', (chunk) => {
      held += chunk
      for (let found = parseFirstRequest(held); found; found = parseFirstRequest(held)) {
        held = held.slice(found.length)
        seen.push(found)
        if (typeof answer === 'string') socket.write(answer, 'latin1')
        else answer(socket, found, seen.length)
      }
    })
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onCleanup(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, seen, sockets }
}

/** The request at the beginning of what came; undefined while a part of it is missing. */
export function parseFirstRequest(
  text: string,
): (RawRequestSeen & { readonly length: number }) | undefined {
  const end = text.indexOf('\r\n\r\n')
  if (end < 0) return undefined
  const head = text.slice(0, end)
  const begin = end + 4
  if (!/^transfer-encoding: chunked$/im.test(head)) {
    const length = begin + Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? 0)
    return text.length < length ? undefined : { head, body: text.slice(begin, length), length }
  }
  let body = ''
  for (let at = begin; ; ) {
    const line = text.indexOf('\r\n', at)
    const size = line < 0 ? Number.NaN : Number.parseInt(text.slice(at, line), 16)
    // There are no trailers: undici sends none.
    if (Number.isNaN(size) || text.length < line + 4 + size) return undefined
    if (size === 0) return { head, body, length: line + 4 }
    body += text.slice(line + 2, line + 2 + size)
    at = line + 4 + size
  }
}

export interface RawGatewayFixture {
  readonly session: SessionCore
  readonly cluster: Cluster
  readonly port: number
  readonly url: string
  readonly instance: RawInstance
}

/** A gateway in front of `http://calc`, whose one instance is such a server. */
export async function openRawGatewayFixture(
  answer: RawResponder,
  {
    service,
    gateway: options,
  }: { service?: Partial<ServiceOptions>; gateway?: GatewayOptions } = {},
): Promise<RawGatewayFixture> {
  const instance = await startRawInstance(answer)
  const session = new SessionCore({ provider: fixed({ urls: [instance.url] }), tickInterval: 20 })
  const cluster = session.startup({ url: 'http://calc', concurrency: 8, ...service })
  const gateway = await createGateway(session, {
    listen: '127.0.0.1:0',
    drainTimeout: 50,
    ...options,
  })
  onCleanup(async () => {
    await gateway.close()
    await session.close({ force: true })
  })
  const port = Number(new URL(gateway.url).port)
  return { session, cluster, port, url: gateway.url, instance }
}

/** Head of an answer, and its body. */
export interface RawResponse {
  readonly status: number
  readonly line: string
  /** In lower case; repeated ones in the order in which they came. */
  readonly headers: readonly (readonly [string, string])[]
  readonly body: string
  /** Names in lower case. */
  readonly trailers: readonly (readonly [string, string])[]
  readonly version: string
}

/** All answers on one connection of HTTP/1.1, read as RFC 9112 section 6.3 says, or an error. */
export function parseResponses(text: string, methods: readonly string[]): RawResponse[] {
  const answers: RawResponse[] = []
  let asked = 0
  for (let rest = text; rest !== ''; ) {
    const { answer, left } = takeResponse(rest, methods[asked] ?? '')
    if (answer.status >= 200 || answer.status === 101) asked++
    if (asked > methods.length) throw new Error(`an answer too many: ${answer.line}`)
    answers.push(answer)
    rest = left
  }
  return answers
}

/** The end of the connection came before that of an answer. */
export class TruncatedResponse extends Error {}

/** The first answer on a connection that has ended. @throws TruncatedResponse */
export function takeResponse(text: string, method: string): { answer: RawResponse; left: string } {
  const end = text.indexOf('\r\n\r\n')
  if (end < 0) throw new TruncatedResponse(`no end of a head in ${JSON.stringify(text)}`)
  const [line = '', ...lines] = text.slice(0, end).split('\r\n')
  const [, version = '', code] = /^HTTP\/(1\.\d) (\d{3}) /.exec(line) ?? []
  if (code === undefined) throw new Error(`no answer: ${JSON.stringify(text.slice(0, 200))}`)
  const status = Number(code)
  const headers = lines.map(pairOf)
  const head = { status, line, headers, version }
  const rest = text.slice(end + 4)
  const value = (name: string): string | undefined => headers.find(([one]) => one === name)?.[1]
  if (status === 101) return { answer: { ...head, body: rest, trailers: [] }, left: '' }
  if (status < 200 || method === 'HEAD' || status === 204 || status === 304) {
    return { answer: { ...head, body: '', trailers: [] }, left: rest }
  }
  if (value('transfer-encoding') !== undefined) {
    const { body, trailers, left } = unchunked(rest)
    return { answer: { ...head, body, trailers }, left }
  }
  const length = Number(value('content-length') ?? Number.POSITIVE_INFINITY)
  if (length !== Number.POSITIVE_INFINITY && rest.length < length) {
    throw new TruncatedResponse(`a body cut short: ${JSON.stringify(rest)}`)
  }
  const body = rest.slice(0, length)
  return { answer: { ...head, body, trailers: [] }, left: rest.slice(body.length) }
}

function pairOf(line: string): readonly [string, string] {
  const colon = line.indexOf(':')
  if (colon < 1) throw new Error(`no header: ${JSON.stringify(line)}`)
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
}

function unchunked(text: string): {
  body: string
  trailers: RawResponse['trailers']
  left: string
} {
  let body = ''
  for (let at = 0; ; ) {
    const line = text.indexOf('\r\n', at)
    if (line < 0) throw new TruncatedResponse('chunks that do not end')
    const size = /^([0-9a-f]+)$/i.exec(text.slice(at, line))?.[1]
    if (size === undefined) throw new Error(`no chunk: ${JSON.stringify(text.slice(at))}`)
    at = line + 2 + Number.parseInt(size, 16)
    if (Number.parseInt(size, 16) > 0) {
      if (text.length < at + 2) throw new TruncatedResponse('a chunk that does not end')
      if (text.slice(at, at + 2) !== '\r\n') throw new Error('a chunk that does not end')
      body += text.slice(line + 2, at)
      at += 2
      continue
    }
    const trailers: (readonly [string, string])[] = []
    for (;;) {
      const end = text.indexOf('\r\n', at)
      if (end < 0) throw new TruncatedResponse('trailers that do not end')
      if (end === at) return { body, trailers, left: text.slice(end + 2) }
      trailers.push(pairOf(text.slice(at, end)))
      at = end + 2
    }
  }
}

/**
 * Asks once, and once more on the same connection: an answer with a wrong frame would be read with the second one.
 * Gives all answers, those with 1xx too.
 */
export async function sendTwoRequests(
  port: number,
  first: string,
  method = 'GET',
): Promise<RawResponse[]> {
  const last = 'GET /calc/last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
  const wire = await connectRaw(port, first + last)
  return parseResponses(await wire.end(), [method, 'GET'])
}

export interface Http2TestResponse {
  readonly headers: IncomingHttpHeaders & { readonly ':status'?: number }
  readonly infos: IncomingHttpHeaders[]
  readonly trailers: IncomingHttpHeaders | undefined
  readonly body: string
  /** How the stream ended. */
  readonly code: number
}

/** Asks over HTTP/2. */
export async function sendHttp2Request(
  url: string,
  headers: Record<string, string | string[]> = {},
  body?: string,
): Promise<Http2TestResponse> {
  const session = connect(url)
  session.on('error', () => undefined)
  const stream = session.request(
    { ':path': '/calc/', ':authority': 'x', ...headers },
    { endStream: false },
  )
  const infos: IncomingHttpHeaders[] = []
  let answer: IncomingHttpHeaders | undefined
  let trailers: IncomingHttpHeaders | undefined
  let text = ''
  let isOver = false
  stream.setEncoding('latin1')
  stream.on('headers', (one) => infos.push(one))
  stream.on('response', (one) => {
    answer = one
  })
  stream.on('trailers', (one) => {
    trailers = one
  })
  stream.on('data', (chunk) => {
    text += chunk
  })
  stream.on('error', () => undefined)
  stream.on('close', () => {
    isOver = true
  })
  if (headers[':protocol'] === undefined) stream.end(body)
  await waitUntil(() => isOver, `the end of a stream that has ${JSON.stringify({ answer, text })}`)
  session.destroy()
  if (!answer) throw new Error(`no answer, code ${stream.rstCode}`)
  return { headers: answer, infos, trailers, body: text, code: stream.rstCode }
}
