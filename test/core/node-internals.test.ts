/** One test for each undocumented field of Node that manyhost uses: a Node version without the field fails here. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { expect, onTestFinished, test } from 'vitest'
import {
  allowHalfOpenHttp,
  appendToHead,
  currentParserBytes,
  currentResponse,
  interceptWrites,
  transportOf,
  writeProgressOf,
  writeRaw,
} from '../../src/core/http/node-internals.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

/** What a server answers, as text, to the bytes of a client that then ends its half of the connection. */
async function exchange(
  sent: string,
  handler: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<string> {
  const server = createServer(handler)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => void server.close())
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  client.setEncoding('latin1').on('error', () => undefined)
  client.write(sent)
  let received = ''
  for await (const chunk of client) received += chunk
  return received
}

const GET = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'

test('ServerResponse._header and ._headerSent: a body is appended to an unsent head', async () => {
  const appended: boolean[] = []
  const text = await exchange(GET, (_request, response) => {
    appended.push(appendToHead(response, 'too early'))
    response.writeHead(200, { 'content-length': 4 })
    appended.push(appendToHead(response, 'body'))
    response.end()
  })
  expect(appended).toEqual([false, true])
  expect(text).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
  expect(text).toMatch(/\r\n\r\nbody$/)
})

test('ServerResponse._headerSent: nothing is appended to a head that was sent', async () => {
  let wasAppended = true
  await exchange(GET, (_request, response) => {
    response.writeHead(200, { 'content-length': 4 })
    response.write('')
    wasAppended = appendToHead(response, 'body')
    response.end('body')
  })
  expect(wasAppended).toBe(false)
})

test('ServerResponse._writeRaw: an informational response is written before the head', async () => {
  const text = await exchange(GET, (_request, response) => {
    writeRaw(response, 'HTTP/1.1 102 Processing\r\nx-name: \xe9\r\n\r\n')
    response.end('body')
  })
  expect(text).toMatch(/^HTTP\/1\.1 102 Processing\r\nx-name: \xe9\r\n\r\nHTTP\/1\.1 200 OK\r\n/)
})

test('Socket._httpMessage: the first of several unanswered requests has the connection', async () => {
  const responses: ServerResponse[] = []
  const current: (ServerResponse | undefined)[] = []
  let afterwards: ServerResponse | undefined
  const first = 'GET /1 HTTP/1.1\r\nHost: a\r\n\r\n'
  await exchange(`${first}${GET}`, ({ socket }, response) => {
    responses.push(response)
    current.push(currentResponse(socket))
    if (responses.length < 2) return
    for (const one of responses) one.end()
    response.once('close', () => {
      afterwards = currentResponse(socket)
    })
  })
  expect(current).toEqual([responses[0], responses[0]])
  expect(afterwards).toBeUndefined()
})

test('Socket.parser.getCurrentBuffer: the bytes of the request are readable in its event', async () => {
  let bytes: Buffer | undefined
  await exchange(GET, (request, response) => {
    bytes = Buffer.from(currentParserBytes(request) ?? '')
    response.end()
  })
  expect(bytes?.toString('latin1')).toBe(GET)
})

test('Server.httpAllowHalfOpen: a client that has ended its half gets its response', async () => {
  const server = createServer((request, response) => {
    request.socket.once('end', () => setImmediate(() => response.end('late')))
  })
  allowHalfOpenHttp(server)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => void server.close())
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  client.setEncoding('latin1').end(GET)
  let received = ''
  for await (const chunk of client) received += chunk
  expect(received).toMatch(/late/)
})

/** Both ends of a TCP connection whose client reads nothing until it is resumed. */
async function openConnection(): Promise<{ client: Socket; server: Socket }> {
  const listener = createTcpServer()
  await once(listener.listen(0, '127.0.0.1'), 'listening')
  const client = connect((listener.address() as AddressInfo).port, '127.0.0.1')
  const [server] = (await once(listener, 'connection')) as [Socket]
  onTestFinished(() => {
    client.destroy()
    server.destroy()
    listener.close()
  })
  return { client, server }
}

test('Socket._handle.bytesWritten and .writeQueueSize: bytes that the kernel has not taken are counted', async () => {
  const { server } = await openConnection()
  expect(writeProgressOf(server)).toEqual({ bytesWritten: 0, writeQueueSize: 0 })
  const length = 64 * 1_024 * 1_024
  server.write(Buffer.alloc(length))
  const progress = writeProgressOf(server)
  expect(progress?.bytesWritten).toBe(length)
  expect(progress?.writeQueueSize).toBeGreaterThan(0)
  expect(progress?.writeQueueSize).toBeLessThan(length)
  server.destroy()
  expect(writeProgressOf(server)).toBeUndefined()
})

test('TLSSocket._parent and ._handle._parent: the connection below is found', async () => {
  const { server } = await openConnection()
  const secure = new TLSSocket(server, { isServer: true })
  secure.on('error', () => undefined)
  expect(transportOf(server)).toBe(server)
  expect(transportOf(secure)).toBe(server)
  server.write(Buffer.alloc(1_000))
  expect(writeProgressOf(secure)?.bytesWritten).toBe(1_000)
  secure.destroy()
})

test('Duplex._write and ._writev: the callback of each write can be replaced', async () => {
  const { client, server } = await openConnection()
  const failures: string[] = []
  interceptWrites(server, (callback) => (error) => {
    failures.push(error ? 'failed' : 'done')
    callback(error)
  })
  server.write('one')
  server.cork()
  server.write('two')
  server.write('three')
  server.uncork()
  server.end()
  let received = ''
  for await (const chunk of client.setEncoding('latin1')) received += chunk
  expect(received).toBe('onetwothree')
  expect(failures.length).toBeGreaterThanOrEqual(2)
  expect(new Set(failures)).toEqual(new Set(['done']))
})
