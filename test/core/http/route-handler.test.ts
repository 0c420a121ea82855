/** A server that is a table of routes behind one token: who is let in, and how errors are answered. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { ManyhostError } from '../../../src/core/errors.ts'
import { createRouteHandler, type HttpRoute } from '../../../src/core/http/route-handler.ts'

const TOKEN = 'a-token-of-the-tests'

async function serve(routes: readonly HttpRoute[], token: string | undefined = TOKEN) {
  const handler = createRouteHandler(routes, { token, realm: 'test', detail: 'give the token' })
  const server = createServer(handler).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const { port } = server.address() as AddressInfo
  return async (path: string, method = 'GET', authorization = `Bearer ${TOKEN}`) => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
      method,
      headers: { authorization },
    })
    const { status, headers } = answer
    return { status, headers, body: (await answer.json()) as Record<string, unknown> }
  }
}

const echo: HttpRoute = {
  method: 'GET',
  path: '/jobs/{id}',
  handle: ({ response, params, query }) =>
    void response.end(JSON.stringify({ ...params, wait: query.get('wait') })),
}
const open: HttpRoute = { ...echo, path: '/health', isPublic: true }
const failing = (error: Error): HttpRoute => ({
  method: 'POST',
  path: '/jobs',
  handle: async () => {
    throw error
  },
})

it('a route gets the segments of its path and the query', async () => {
  const call = await serve([echo])
  expect(await call('/jobs/a%20b?wait=5')).toMatchObject({
    status: 200,
    body: { id: 'a b', wait: '5' },
  })
})

it('a caller without the token gets 401 on every path but a public one', async () => {
  const call = await serve([echo, open])
  for (const path of ['/jobs/a', '/elsewhere']) {
    const { status, headers, body } = await call(path, 'GET', 'Bearer wrong')
    expect([status, headers.get('www-authenticate')]).toEqual([401, 'Bearer realm="test"'])
    expect(body).toMatchObject({ code: 'MANYHOST_UNAUTHORIZED', detail: 'give the token' })
  }
  expect((await call('/health', 'GET', '')).status).toBe(200)
})

it('a path that does not exist is 404, a method that a path does not have is 405', async () => {
  const call = await serve([echo, open])
  expect(await call('/elsewhere')).toMatchObject({
    status: 404,
    body: { detail: 'there is no GET /elsewhere' },
  })
  expect((await call('/jobs/')).status).toBe(404)
  const { status, headers } = await call('/jobs/a', 'PUT')
  expect([status, headers.get('allow')]).toEqual([405, 'GET'])
})

it('an error is a problem with its detail, and its code if it has one', async () => {
  const own = await serve([failing(new ManyhostError('MANYHOST_INVALID_TASK', 'line 2: no'))])
  const { status, headers, body } = await own('/jobs', 'POST')
  expect([status, headers.get('content-type')]).toEqual([400, 'application/problem+json'])
  expect(body).toMatchObject({ code: 'MANYHOST_INVALID_TASK', detail: 'line 2: no' })
  const other = await serve([failing(new Error('the disk is gone'))])
  expect(await other('/jobs', 'POST')).toMatchObject({
    status: 500,
    body: { detail: expect.stringContaining('the disk is gone') },
  })
})
