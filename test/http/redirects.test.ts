import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { expect, onTestFinished, test } from 'vitest'
import type { NodeHandler } from '../../providers/testing/index.ts'
import { echo } from '../fakes/echo.ts'
import { openService } from '../fakes/service.ts'
import { waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

/** `/to?<status>&<location>` redirects there; all else echoes. */
const redirecting: NodeHandler = async (req, res) => {
  const match = /^\/to\?(\d+)&(.*)$/.exec(req.url as string)
  if (!match) return void (await echo(req, res))
  req.resume()
  res.writeHead(Number(match[1]), { location: decodeURIComponent(match[2] as string) })
  res.end('moved')
}

async function outside(): Promise<string> {
  const server = createServer((req, res) => void redirecting(req as never, res))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

test.each([
  [301, 'POST', 'GET'],
  [302, 'POST', 'GET'],
  [303, 'POST', 'GET'],
  [307, 'POST', 'POST'],
  [308, 'POST', 'POST'],
  [301, 'PUT', 'PUT'],
  [303, 'PUT', 'GET'],
  [303, 'HEAD', 'HEAD'],
  [302, 'DELETE', 'DELETE'],
])('%i after %s goes on with %s', async (status, method, after) => {
  const { client, session } = openService(redirecting)
  const body = method === 'HEAD' || method === 'DELETE' ? undefined : 'content'
  const res = await client.request(method, `http://calc/to?${status}&/end`, {
    ...(body && { body }),
    headers: { 'content-type': 'text/x', 'x-kept': '1' },
  })
  expect([res.status, res.redirected, res.url]).toEqual([200, true, 'http://calc/end'])
  if (method !== 'HEAD') {
    const seen = await res.json()
    const keeps = after === method
    expect([seen.method, seen.body]).toEqual([after, keeps ? (body ?? '') : ''])
    expect(seen.headers['content-type']).toBe(keeps ? 'text/x' : undefined)
    expect(seen.headers['x-kept']).toBe('1')
  }
  await waitUntil(() => session.cluster('http://calc').inFlight === 0)
})

test('inside to outside and back; credentials stay behind; the fragment goes along', async () => {
  const away = await outside()
  const { client } = openService(redirecting)
  const back = encodeURIComponent('http://calc/end')
  const there = encodeURIComponent(`${away}/to?307&${back}`)
  const headers = { authorization: 'secret', Cookie: 'a=b', 'x-kept': '1', 'X-Request-Id': 'mine' }
  const res = await client.post(`http://calc/to?307&${there}#top`, { headers, body: 'again' })
  const seen = await res.json()
  expect(res.url).toBe('http://calc/end#top')
  expect([seen.method, seen.body, seen.headers['x-kept']]).toEqual(['POST', 'again', '1'])
  expect(seen.headers.authorization).toBeUndefined()
  expect(seen.headers.cookie).toBeUndefined()
  expect(seen.headers['x-request-id']).toBe('mine')
  expect(seen.headers.host).toBe('calc')
})

test('what goes outside has none of our headers, and all of the caller', async () => {
  const away = await outside()
  const { client } = openService(redirecting)
  const headers = { 'x-request-id': 'mine', host: 'elsewhere', 'idempotency-key': 'key' }
  const own = await (await client.post(`${away}/x?y`, { headers, json: {} })).json()
  expect(own.headers).toMatchObject({ ...headers, 'content-type': 'application/json' })
  expect(Object.keys(own.headers).some((name) => name.startsWith('x-manyhost'))).toBe(false)
  const bare = await (await client.post(`${away}/x`)).json()
  expect(Object.keys(bare.headers).filter((name) => /request|idemp|many/.test(name))).toEqual([])
})

test('credentials are kept within one origin', async () => {
  const { client } = openService(redirecting)
  const headers = { authorization: 'secret' }
  const res = await client.get('http://calc/to?302&end?q', { headers })
  const seen = await res.json()
  expect([seen.url, seen.headers.authorization]).toEqual(['/end?q', 'secret'])
})

test('bounded; or none at all; or an error', async () => {
  const { client, session } = openService((req: IncomingMessage, res) => {
    res.writeHead(302, { location: `${req.url}x` }).end()
  })
  await expect(client.get('http://calc/')).rejects.toMatchObject({
    code: 'MANYHOST_REDIRECT',
    message: expect.stringContaining('more than 20 redirects'),
  })
  await expect(client.get('http://calc/', { maxRedirects: 1 })).rejects.toThrow('more than 1 redir')
  await expect(client.get('http://calc/', { redirect: 'error' })).rejects.toMatchObject({
    code: 'MANYHOST_REDIRECT',
  })
  const manual = await client.get('http://calc/', { redirect: 'manual' })
  expect([manual.status, manual.headers.get('location')]).toEqual([302, '/x'])
  await waitUntil(() => session.cluster('http://calc').inFlight === 0)
})

test('a Location that leads nowhere, and a 3xx without one', async () => {
  const { client, session } = openService(redirecting)
  for (const location of ['http://', 'ftp://calc/x', 'http://a:99999/']) {
    await expect(client.get(`http://calc/to?302&${location}`)).rejects.toMatchObject({
      code: 'MANYHOST_REDIRECT',
    })
  }
  const { client: other } = openService((_req, res) => void res.writeHead(304).end())
  expect((await other.get('http://calc/')).status).toBe(304)
  await waitUntil(() => session.cluster('http://calc').inFlight === 0)
})

test('307: what can be sent again is; a stream that is used up says so', async () => {
  const { client, session } = openService(redirecting)
  const url = 'http://calc/to?307&/end'
  const sent = async (body: unknown): Promise<string> =>
    (await (await client.post(url, { body: body as string })).json()).body
  expect(await sent(new URLSearchParams({ a: 'b' }))).toBe('a=b')
  expect(await sent(new Blob(['blob']))).toBe('blob')
  expect(await sent(() => Readable.from(['fac', 'tory']))).toBe('factory')
  await expect(sent(Readable.from(['once']))).rejects.toMatchObject({
    code: 'MANYHOST_REDIRECT',
    message: expect.stringContaining('used up'),
  })
  await waitUntil(() => session.cluster('http://calc').inFlight === 0)
})
