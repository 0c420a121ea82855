/** A server that shows what it was sent, and answers in all ways that a client may have to deal with. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { gzipSync } from 'node:zlib'
import { onTestFinished } from 'vitest'
import { readBody } from './service.ts'

/** What a session adds, and what depends on where the server is. */
const OURS = new Set(['x-request-id', 'idempotency-key', 'x-manyhost-attempt', 'host'])

/** Header fields as they came, sorted by name: their order among each other is nobody's promise. */
function fields({ rawHeaders }: IncomingMessage): string[] {
  const lines: string[] = []
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string
    const value = rawHeaders[i + 1] as string
    if (!OURS.has(name.toLowerCase()))
      lines.push(`${name}: ${value.replace(/formdata-\S+/, '...')}`)
  }
  return lines.toSorted()
}

async function show(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = (await readBody(request)).toString('latin1')
  const { method, url } = request
  response.setHeader('content-type', 'application/json')
  response.end(
    JSON.stringify({
      method,
      url,
      fields: fields(request),
      body: body.replace(/formdata-\S+/g, '...'),
    }),
  )
}

const ANSWERS: Record<string, (response: ServerResponse, socket: Socket) => void> = {
  '/404': (response) => response.writeHead(404, 'Gone Fishing').end('not here'),
  '/503': (response) => response.writeHead(503).end('busy'),
  '/204': (response) => response.writeHead(204).end(),
  '/304': (response) => response.writeHead(304, { etag: '"a"' }).end(),
  '/301': (response) => response.writeHead(301, { location: '/show?to' }).end('moved'),
  '/307': (response) => response.writeHead(307, { location: '/show?to' }).end('moved'),
  '/circle': (response) => response.writeHead(302, { location: '/circle' }).end(),
  '/gzip': (response) => {
    response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync('unpacked'))
  },
  '/hints': (response) => {
    response.writeEarlyHints({ link: '</a.css>; rel=preload' })
    response.end('after hints')
  },
  '/trailers': (response) => {
    response.writeHead(200, { trailer: 'x-sum' }).write('a')
    response.addTrailers([
      ['X-Sum', '1'],
      ['constructor', 'c'],
      ['__proto__', 'p'],
    ] as never)
    response.end('b')
  },
  '/json': (response) => {
    response.writeHead(400, { 'content-type': 'application/json' }).end('{"why":"so"}')
  },
  '/big': (response) => response.end(Buffer.alloc(300_000, 'x')),
  '/chunks': (response) => {
    response.write('one')
    setImmediate(() => response.end('two'))
  },
  '/never': () => undefined,
  '/stalls': (response) => response.write('begun'),
  '/reset': (response, socket) => {
    response.writeHead(200).write('x'.repeat(2_000_000), () => socket.resetAndDestroy())
  },
}

/** Names that are also those of every object. */
const NAMES = [
  'HTTP/1.1 200 OK',
  'constructor: a',
  '__proto__: b',
  '__proto__: c',
  'toString: d',
  'hasOwnProperty: e',
  'X-Twice: 1',
  'x-twice: 2',
  'set-cookie: k=1',
  'set-cookie: k=2',
  'x-latin: \xe9',
  'content-length: 2',
  '',
  'ok',
]

/** The server's URL. */
export async function mirror(): Promise<string> {
  const sockets = new Set<Socket>()
  const server = createServer((request, response) => {
    const path = (request.url ?? '').split('?')[0] as string
    if (path === '/names') return void request.socket.write(NAMES.join('\r\n'), 'latin1')
    const answer = ANSWERS[path]
    if (answer) answer(response, request.socket)
    else void show(request, response).catch(() => undefined)
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
  })
  const tunnel = (head: string) => (_request: IncomingMessage, socket: Socket) => {
    socket.write(head)
    socket.on('data', (chunk) => socket.end(`echo ${chunk}`))
  }
  server.on('upgrade', (request: IncomingMessage, socket: Socket) => {
    if (request.url === '/refused')
      return socket.end('HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n')
    const head =
      'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: a\r\nconstructor: c\r\n\r\n'
    return tunnel(head)(request, socket)
  })
  server.on('connect', tunnel('HTTP/1.1 200 Yes\r\nx-a: 1\r\n\r\n') as never)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
