/** Short answers leave in one write with their head: every byte of them, whatever they are, and in their order. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fixed } from '../../providers/static.ts'
import { createGateway, type Gateway } from '../../src/gateway/index.ts'
import { Session } from '../../src/index.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

const ALL = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))

const server = createServer((request, response) => {
  if (request.url === '/empty') return response.end()
  if (request.url === '/chunked') {
    response.write(ALL)
    return response.end(ALL)
  }
  if (request.url === '/none') return response.writeHead(204).end()
  if (request.url === '/named') {
    response.writeHead(200, { connection: 'X-Secret, keep-alive', 'x-secret': '1', 'X-Odd': '2' })
    return response.end('named')
  }
  response.writeHead(200, { 'content-length': ALL.length })
  return response.end(request.method === 'HEAD' ? undefined : ALL)
})

let session: Session
let gateway: Gateway
beforeAll(async () => {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as { port: number }
  session = new Session({ provider: fixed({ urls: [`http://127.0.0.1:${port}`] }) })
  session.startup({ url: 'http://calc' })
  gateway = await createGateway(session, { listen: '127.0.0.1:0' })
})
afterAll(async () => {
  await gateway.close()
  await session.close({ force: true })
  server.close()
})

/** Sends what is given on one connection, and reads to its end. */
async function talk(text: string): Promise<Buffer> {
  const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1')
  socket.write(text)
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

test('all bytes come through, one answer behind the other', async () => {
  const one = (path: string, method = 'GET', more = '') =>
    `${method} ${path} HTTP/1.1\r\nHost: calc\r\n${more}\r\n`
  const heard = await talk(
    one('/') +
      one('/', 'HEAD') +
      one('/none') +
      one('/empty') +
      one('/chunked') +
      one('/', 'GET', 'Connection: close\r\n'),
  )
  const text = heard.toString('latin1')
  expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual([
    'HTTP/1.1 200',
    'HTTP/1.1 200',
    'HTTP/1.1 204',
    'HTTP/1.1 200',
    'HTTP/1.1 200',
    'HTTP/1.1 200',
  ])
  const all = ALL.toString('latin1')
  // The plain ones, and the chunked one twice.
  expect(text.split(all).length - 1).toBe(4)
  expect(text.endsWith(`\r\n\r\n${all}`)).toBe(true)
})

test('headers that Connection names are dropped from answers, others keep their case', async () => {
  const heard = String(await talk('GET /named HTTP/1.1\r\nHost: calc\r\nConnection: close\r\n\r\n'))
  expect(heard).not.toMatch(/x-secret/i)
  expect(heard).toContain('\r\nX-Odd: 2\r\n')
  expect(heard).toMatch(/\r\nTransfer-Encoding: chunked\r\n|\r\nContent-Length: 5\r\n/i)
  expect(heard).toContain('named')
})
