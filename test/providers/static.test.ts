import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type FixedOptions, fixed } from '../../providers/static.ts'
import { portBase } from '../ports.ts'
import { get, specOf, waitUntil } from './process-help.ts'

const signal = new AbortController().signal
const socketPath = join(tmpdir(), `manyhost-static-${process.pid}.sock`)
const servers: Server[] = []
const urls: string[] = []
let asked = 0

/** Answers with its number. */
async function listen(where: number | string): Promise<Server> {
  const index = servers.length
  const server = createServer((request, response) => {
    asked++
    if (request.url !== '/hang') response.end(`server ${index}`)
  })
  servers.push(server)
  await new Promise<void>((resolve) =>
    typeof where === 'string'
      ? server.listen(where, resolve)
      : server.listen(where, '127.0.0.1', resolve),
  )
  return server
}

beforeAll(async () => {
  for (let i = 0; i < 2; i++) {
    const server = await listen(0)
    urls.push(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  }
  await listen(socketPath)
  urls.push(`unix:${socketPath}`)
})
afterAll(() => {
  for (const server of servers) {
    server.closeAllConnections()
    server.close()
  }
})

test('hands out each address once, and serves from it', async () => {
  const provider = fixed({ urls })
  expect(provider.limit).toBe(3)
  expect(provider.name).toBe('static')
  expect([...provider.capabilities]).toEqual([])
  const all = await Promise.all(urls.map(() => provider.start(specOf(), { signal })))
  expect(all.map((running) => running.address)).toEqual(urls)
  const answers = await Promise.all(all.map((running) => get(running.dispatcher, '/')))
  expect(answers).toEqual(['server 0', 'server 1', 'server 2'])
  for (const running of all) await running.accepts?.(signal)

  await expect(provider.start(specOf(), { signal })).rejects.toMatchObject({
    code: 'MANYHOST_START_FAILED',
    message: expect.stringContaining('there are only 3 addresses, all in use'),
  })
  await Promise.all(all.map((running) => running.stop(1_000)))
})

test('the least recently used address comes first', async () => {
  const provider = fixed({ urls })
  const [a, b] = [
    await provider.start(specOf(), { signal }),
    await provider.start(specOf(), { signal }),
  ]
  await b.stop(0)
  await a.stop(0)
  const order = []
  for (let i = 0; i < 3; i++) order.push((await provider.start(specOf(), { signal })).address)
  expect(order).toEqual([urls[2], urls[1], urls[0]])
})

test('stop lets a request end, and the server lives on', async () => {
  const provider = fixed({ urls: urls.slice(0, 1) })
  const running = await provider.start(specOf(), { signal })
  const answer = get(running.dispatcher, '/')
  await running.stop(10_000)
  expect(await answer).toBe('server 0')
  expect(await running.exited).toEqual({ reason: 'stopped', detail: 'stopped' })
  await running.stop(0)
  const again = await provider.start(specOf(), { signal })
  expect(await get(again.dispatcher, '/')).toBe('server 0')
  await again.stop(0)
})

test('stop cuts what does not end within the grace, which a second call shortens', async () => {
  const provider = fixed({ urls: urls.slice(0, 1) })
  const running = await provider.start(specOf(), { signal })
  const before = asked
  const failure = get(running.dispatcher, '/hang').catch((error) => error)
  await waitUntil(() => asked > before)
  const first = running.stop(1_000_000)
  await running.stop(10)
  await first
  expect(await failure).toMatchObject({ code: 'MANYHOST_INSTANCE_ENDED' })
  expect((await running.exited).reason).toBe('stopped')
})

test('accepts is refused where nobody listens', async () => {
  const nobody = fixed({ urls: [`http://127.0.0.1:${portBase}`] })
  const running = await nobody.start(specOf(), { signal })
  await expect(running.accepts?.(signal)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  await running.stop(0)
})

test('a start that was given up takes no address', async () => {
  const provider = fixed({ urls: urls.slice(0, 1) })
  const reason = new Error('enough')
  await expect(provider.start(specOf(), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  await (await provider.start(specOf(), { signal })).stop(0)
})

describe('options', () => {
  test.each<[unknown, string]>([
    [{}, 'fixed: urls is missing'],
    [{ urls: [] }, 'got []'],
    [{ urls: 'http://a' }, 'got "http://a"'],
    [{ urls: ['http://a'], url: 'x' }, `fixed: unknown option 'url'`],
    [{ urls: ['http://a:80', 'http://A/'] }, 'urls[1] is the same as an earlier URL'],
    [{ urls: ['http://a', 'ftp://b'] }, 'urls[1] must be like'],
    [{ urls: ['nonsense'] }, 'it is not a URL'],
    [{ urls: [7] }, 'it is not a string'],
    [{ urls: ['http://a/path'] }, 'it must not have a path'],
    [{ urls: ['http://me@a'] }, 'it must not have a user'],
    [{ urls: ['unix:relative.sock'] }, 'the path of a socket must be absolute'],
    [{ urls: ['http://a'], connect: 'tls' }, 'connect must be an object or a function, got "tls"'],
  ])('%j is refused', (options, text) => {
    expect(() => fixed(options as FixedOptions)).toThrow(
      expect.objectContaining({
        code: 'MANYHOST_INVALID_OPTION',
        message: expect.stringContaining(text),
      }),
    )
  })
})
