/** Listening on an address: what an error says, and who may connect to a unix socket. */
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { createServer, Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { listenOn } from '../../src/core/listen.ts'
import { rejectionOf } from '../help.ts'

function openServer() {
  const server = createServer()
  onTestFinished(() => void server.close())
  return server
}

test('an address that is taken is an error that names it, with its cause', async () => {
  const first = openServer()
  await listenOn(first, { host: '127.0.0.1', port: 0 }, 'x')
  const { port } = first.address() as { port: number }
  const error = await rejectionOf(listenOn(openServer(), { host: '127.0.0.1', port }, 'x'))
  expect(error.code).toBe('MANYHOST_INVALID_OPTION')
  expect(error.message).toBe(
    `x: cannot listen on 127.0.0.1:${port}: it is taken by another program`,
  )
  expect(error.cause).toMatchObject({ code: 'EADDRINUSE' })
})

test('a unix socket is for our own user alone', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-listen-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'socket')
  await listenOn(openServer(), { path }, 'x')
  expect(statSync(path).mode & 0o777).toBe(0o600)
  const missing = join(folder, 'none', 'socket')
  const { message } = await rejectionOf(listenOn(openServer(), { path: missing }, 'x'))
  expect(message).toMatch(/^x: cannot listen on unix:.*none/)
})

test('all addresses of a machine without IPv6 are those of IPv4', async () => {
  /** As the system answers where IPv6 is switched off. */
  class ServerWithoutIpv6 extends Server {
    override listen(...args: unknown[]): this {
      if ((args[0] as { host?: string }).host !== '::') return super.listen(...(args as [object]))
      const error = Object.assign(new Error('no IPv6'), { code: 'EAFNOSUPPORT' })
      process.nextTick(() => this.emit('error', error))
      return this
    }
  }
  const server = new ServerWithoutIpv6()
  onTestFinished(() => void server.close())
  await listenOn(server, { host: '::', port: 0 }, 'x')
  expect(server.address()).toMatchObject({ address: '0.0.0.0' })
})
