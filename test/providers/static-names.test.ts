/** `fixed` by names: a DNS server of the test's own, that says what it is told to. */
import { createSocket, type Socket } from 'node:dgram'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { fixed } from '../../providers/static.ts'
import { Session } from '../../src/index.ts'
import { NEVER, rejectionOf, waitForReady, waitUntil } from '../help.ts'
import { specOf } from './process-help.ts'

const url = 'http://calc'
const { signal } = new AbortController()
let dns: Socket
let servers: string[]
let web: Server[]
let port: number
/** What it says, by name. */
let addresses: string[]
let records: { weight: number; port: number; name: string }[]

/** A name as DNS writes it. */
const written = (name: string): Buffer =>
  Buffer.concat([
    ...name.split('.').map((label) => Buffer.from([label.length, ...Buffer.from(label)])),
    Buffer.from([0]),
  ])

function answer(question: Buffer): Buffer {
  let end = 12
  while (question[end] !== 0) end += (question[end] ?? 0) + 1
  const type = question.readUInt16BE(end + 1)
  const data =
    type === 33
      ? records.map(({ weight, port: at, name }) => {
          const head = Buffer.alloc(6)
          head.writeUInt16BE(weight, 2)
          head.writeUInt16BE(at, 4)
          return Buffer.concat([head, written(name)])
        })
      : type === 1
        ? addresses.map((address) => Buffer.from(address.split('.').map(Number)))
        : []
  const header = Buffer.from(question.subarray(0, 12))
  header.writeUInt16BE(0x8180, 2)
  header.writeUInt16BE(data.length, 6)
  header.writeUInt32BE(0, 8)
  const answers = data.map((one) => {
    const head = Buffer.alloc(12)
    head.writeUInt16BE(0xc00c, 0)
    head.writeUInt16BE(type, 2)
    head.writeUInt16BE(1, 4)
    head.writeUInt16BE(one.length, 10)
    return Buffer.concat([head, one])
  })
  return Buffer.concat([header, question.subarray(12, end + 5), ...answers])
}

beforeEach(async () => {
  dns = createSocket('udp4')
  dns.on('message', (question, { address, port: to }) => dns.send(answer(question), to, address))
  await new Promise<void>((resolve) => dns.bind(0, '127.0.0.1', resolve))
  servers = [`127.0.0.1:${dns.address().port}`]
  web = []
  port = 0
  // All of 127.0.0.0/8 is this machine.
  for (const host of ['127.0.0.1', '127.0.0.2', '127.0.0.3']) {
    const server = createServer((_, response) => response.end(host))
    await new Promise<void>((resolve) => server.listen(port, host, resolve))
    port = (server.address() as AddressInfo).port
    web.push(server)
  }
})
afterEach(() => {
  dns.close()
  for (const server of web) server.close()
})

const hosts = (session: Session): string[] =>
  session
    .cluster(url)
    .instances.map(({ address = '' }) => new URL(address).hostname)
    .sort()

test('each address of a name is an instance; new ones come, gone ones drain', async () => {
  addresses = ['127.0.0.1', '127.0.0.2']
  const provider = fixed({ urls: [`http://calc.test:${port}`], resolve: 100, servers })
  expect(provider.limit).toBeUndefined()
  // What DNS says is heard at once: no tick is waited for.
  const session = new Session({ provider, tickInterval: NEVER })
  session.startup({ url, initSize: 8 })
  await waitForReady(session, url, 2)
  expect(hosts(session)).toEqual(['127.0.0.1', '127.0.0.2'])
  addresses = ['127.0.0.2', '127.0.0.3']
  await waitUntil(() => hosts(session).join() === '127.0.0.2,127.0.0.3')
  await waitForReady(session, url, 2)
  expect(await (await session.client().get(`${url}/`)).text()).toMatch(/^127\.0\.0\.[23]$/)
  await session.close()
})

test('SRV records: their ports and weights', async () => {
  addresses = ['127.0.0.1']
  const other = createServer((_, response) => response.end('other'))
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  web.push(other)
  records = [
    { weight: 10, port, name: 'a.test' },
    { weight: 30, port: (other.address() as AddressInfo).port, name: 'b.test' },
  ]
  const provider = fixed({ urls: ['srv+http://_calc._tcp.test'], servers })
  const all = [
    await provider.start(specOf({ concurrency: 2 }), { signal }),
    await provider.start(specOf({ concurrency: 2 }), { signal }),
  ]
  expect(all.map(({ slots: places }) => places)).toEqual([2, 6])
  expect(provider.limit).toBe(2)
  await Promise.all(all.map((running) => running.stop(0)))
  await provider.close?.()
})

test('an unknown name: the start fails with it, and the next start asks again', async () => {
  addresses = []
  const provider = fixed({ urls: [`http://calc.test:${port}`], resolve: 3_600_000, servers })
  expect((await rejectionOf(provider.start(specOf(), { signal }))).message).toMatch(
    /calc\.test: .*ENODATA/,
  )
  addresses = ['127.0.0.1']
  const running = await provider.start(specOf(), { signal })
  expect(running.address).toBe(`http://127.0.0.1:${port}`)
  await running.stop(0)
  await provider.close?.()
})

test('a weight gives slots', async () => {
  const provider = fixed({ urls: [{ url: `http://127.0.0.1:${port}`, weight: 2.5 }] })
  const running = await provider.start(specOf({ concurrency: 4 }), { signal })
  expect(running.slots).toBe(10)
  await running.stop(0)
})
