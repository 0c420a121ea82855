/** What every HTTP server of ours does with its connections. */

import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { connect as dialTls } from 'node:tls'
import { afterAll, afterEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import {
  destroyResponse,
  guardConnections,
  serverOptions,
} from '../../src/core/http/http-server.ts'
import { certificate } from '../fakes/certificate.ts'
import { runEventLoop, waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

const folder = mkdtempSync(join(tmpdir(), 'manyhost-servers-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const pair = certificate(folder, 'one')
const tls = { key: readFileSync(pair.key), cert: readFileSync(pair.cert) }

afterEach(() => void vi.useRealTimers())

const root = resolve(import.meta.dirname, '../..')

test('all servers use it, but those whose connections have rules of their own', () => {
  const files = ['src', 'providers'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => `${folder}/${name}`),
  )
  const makers = files.filter((file) =>
    /\{[^}]*\bcreateServer\b[^}]*\} from 'node:https?'/.test(
      readFileSync(join(root, file), 'utf8'),
    ),
  )
  const own = [
    // The gateway's options.
    'src/gateway/server.ts',
    // Task servers are its only clients: tasks are cancelled as soon as they go.
    'src/tasks/runner/runner-server.ts',
    // For tests of users.
    'providers/testing/instance.ts',
  ]
  expect(makers).toEqual(expect.arrayContaining(own))
  for (const file of makers.filter((one) => !own.includes(one))) {
    const text = readFileSync(join(root, file), 'utf8')
    expect(text.split('serverOptions(').length, file).toBeGreaterThan(1)
    expect(text, file).toContain('guardConnections(')
  }
})

async function serve(isTls: boolean, listener: RequestListener, limits = {}): Promise<number> {
  const all = { requestTimeout: 30_000, connections: 10, ...limits }
  const server = isTls
    ? createTlsServer({ ...serverOptions(all), ...tls }, listener)
    : createServer(serverOptions(all), listener)
  guardConnections(server, all)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

async function dial(port: number, isTls: boolean, text = ''): Promise<Socket & { text: string }> {
  const to = { port, host: '127.0.0.1', allowHalfOpen: true, rejectUnauthorized: false }
  const socket = Object.assign(isTls ? dialTls(to) : connect(to), { text: '' })
  socket.on('error', () => undefined)
  onTestFinished(() => void socket.destroy())
  await once(socket, isTls ? 'secureConnect' : 'connect')
  socket.write(text)
  return socket
}

function read(socket: Socket & { text: string }): Socket {
  return socket.on('data', (chunk) => {
    socket.text += chunk
  })
}

describe.each([false, true])('TLS %s', (isTls) => {
  test('a body that does not come is a 408, and a head that does not come, too', async () => {
    const port = await serve(isTls, (req) => void req.resume(), { requestTimeout: 100 })
    for (const text of ['POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na', 'GET / HT']) {
      const socket = await dial(port, isTls, text)
      await once(read(socket), 'end')
      expect(socket.text).toMatch(/^HTTP\/1.1 408 /)
    }
  })

  test('a client that has ended its half gets its answer, and one that is gone is let go', async () => {
    let answer = (): void => undefined
    let isClosed = false
    const port = await serve(isTls, (_req, res) => {
      isClosed = false
      res.on('close', () => {
        isClosed = true
      })
      answer = () => void res.end('whole')
    })
    const ask = async (): Promise<Socket & { text: string }> => {
      answer = () => undefined
      const before = answer
      const socket = await dial(port, isTls, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
      await waitUntil(() => answer !== before)
      return socket
    }
    const waiting = await ask()
    read(waiting).end()
    await runEventLoop(50)
    expect(isClosed).toBe(false)
    answer()
    await once(waiting, 'end')
    expect(waiting.text).toMatch(/^HTTP\/1.1 200 OK.*whole/s)
    const gone = await ask()
    gone.destroy()
    await waitUntil(() => isClosed)
  })

  test('a client that does not read is cut off, one that has nothing to read is not', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    let open = 0
    const port = await serve(isTls, (req, res) => {
      open++
      res.on('close', () => open--)
      if (req.url === '/much') res.write(Buffer.alloc(30_000_000))
      else res.write('abc')
    })
    for (const path of ['much', 'little']) {
      ;(await dial(port, isTls, `GET /${path} HTTP/1.1\r\nHost: x\r\n\r\n`)).pause()
    }
    await waitUntil(() => open === 2)
    await waitUntil(async () => {
      await runEventLoop(20)
      vi.advanceTimersByTime(1_000)
      return open === 1
    })
    for (let i = 0; i < 100; i++) {
      await runEventLoop(1)
      vi.advanceTimersByTime(1_000)
    }
    expect(open).toBe(1)
  })

  test('one connection too many is closed', async () => {
    const port = await serve(isTls, (_req, res) => res.end('ok'), { connections: 1 })
    const first = await dial(port, isTls)
    const second = connect({ port, host: '127.0.0.1' })
    second.on('error', () => undefined).resume()
    await once(second, 'close')
    read(first).write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    await waitUntil(() => first.text.includes('ok'))
  })
})

test.each([false, true])(
  'destroyResponse ends the connection of a response that waits behind another one, TLS %s',
  async (isTls) => {
    let isDestroyed = false
    const port = await serve(isTls, ({ url }, response) => {
      // The first response never ends, so the second one has no socket yet.
      if (url === '/first') return void response.write('begun')
      response.writeHead(200, { 'content-length': '100' })
      response.write('a part')
      expect(response.socket).toBeNull()
      destroyResponse(response)
      isDestroyed = true
    })
    const get = (path: string): string => `GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`
    const client = await dial(port, isTls, get('/first') + get('/second'))
    // The client's own half stays open, so it sees an end, or a reset.
    await Promise.race([once(client, 'end'), once(client, 'close')])
    expect([isDestroyed, client.text.includes('a part')]).toEqual([true, false])
  },
)
