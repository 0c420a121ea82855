/** The routes of the admin API, and what they make of bad input. */
import { connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { faults } from '../../providers/testing/index.ts'
import { waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import { type AdminFixture, JSON_TYPE, openAdminFixture, waitUntilReady } from './admin-fixture.ts'

expectNothingLeft()

let served: AdminFixture

beforeEach(async () => {
  served = await openAdminFixture({ version: '9.9.9' })
})
afterEach(() => served[Symbol.asyncDispose]())

async function calc(size = 2): Promise<void> {
  served.session.startup({ url: 'http://calc', initSize: size })
  await waitUntilReady(served.session, 'http://calc', size)
}

const put = (path: string, body: string | Buffer, headers: Record<string, string> = JSON_TYPE) =>
  served.ask(path, { method: 'PUT', body, headers })
const post = (path: string, headers: Record<string, string> = JSON_TYPE) =>
  served.ask(path, { method: 'POST', headers })

describe('health', () => {
  test('livez is live whatever there is', async () => {
    expect((await served.ask('/livez')).json).toEqual({ status: 'live' })
  })

  test('readyz has a reason for each service without a ready instance', async () => {
    expect((await served.ask('/readyz')).status).toBe(200)
    served.session.startup({ url: 'http://asleep', initSize: 0 })
    expect((await served.ask('/readyz')).status).toBe(200)
    await calc()
    expect((await served.ask('/readyz')).status).toBe(200)
    const provider = faults(served.provider, { startFailure: { percentage: 100 } })
    served.session.startup({ url: 'http://slow', provider })
    const answer = await served.ask('/readyz')
    expect([answer.status, answer.headers['content-type']]).toEqual([
      503,
      'application/problem+json',
    ])
    expect(answer.json.reasons).toEqual([expect.stringMatching(/^http:\/\/slow: 1 wanted/)])
  })

  test('readyz is not ready while the session closes', async () => {
    await served.session.close()
    const { status, json } = await served.ask('/readyz')
    expect([status, json.reasons]).toEqual([503, ['the session is closing']])
    expect((await served.ask('/livez')).status).toBe(200)
  })

  test('readyz asks the gateway, too', async () => {
    await using other = await openAdminFixture({ isReady: () => false })
    expect((await other.ask('/readyz')).json.reasons).toEqual(['the gateway is not open'])
  })
})

describe('metrics', () => {
  test('are plain text, or OpenMetrics where that is asked for, and stay so', async () => {
    await calc()
    await (await served.session.client().get('http://calc/')).text()
    const total =
      'manyhost_requests_total{service="http://calc",method="GET",code="200",outcome="answered"} 1'
    for (let round = 0; round < 2; round++) {
      const plain = await served.ask('/metrics')
      expect(plain.headers['content-type']).toContain('text/plain')
      expect(plain.text).toContain('# TYPE manyhost_requests_total counter')
      const accept = 'application/openmetrics-text;version=1.0.0,text/plain;q=0.5'
      const open = await served.ask('/metrics', { headers: { accept } })
      expect(open.headers['content-type']).toContain('application/openmetrics-text; version=1.0.0')
      expect(open.text).toContain('# TYPE manyhost_requests counter')
      expect(open.text).toContain(
        'manyhost_request_duration_seconds_bucket{le="1.0",service="http://calc"} 1',
      )
      expect(open.text.endsWith('\n# EOF\n')).toBe(true)
      for (const { text } of [plain, open]) expect(text).toContain(`${total}\n`)
    }
  })

  test('have exemplars in OpenMetrics: a request of each bucket of the durations, and its trace', async () => {
    await calc()
    const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
    const headers = {
      'x-request-id': 'find-"me"',
      traceparent: `00-${traceId}-00f067aa0ba902b7-01`,
    }
    await (await served.session.client().get('http://calc/', { headers })).text()
    const accept = 'application/openmetrics-text'
    const { text } = await served.ask('/metrics', { headers: { accept } })
    const marked = text.split('\n').filter((line) => line.includes(' # '))
    expect(marked).toHaveLength(1)
    const [, le, labels, value, at] =
      /^manyhost_request_duration_seconds_bucket\{le="([\d.]+)",.*\} 1 # (\{.*\}) ([\d.e-]+) ([\d.]+)$/.exec(
        marked[0] as string,
      ) ?? []
    expect(labels).toBe(`{trace_id="${traceId}",request_id="find-\\"me\\""}`)
    expect(Number(value)).toBeGreaterThan(0)
    expect(Number(value)).toBeLessThanOrEqual(Number(le))
    expect(Math.abs(Number(at) - Date.now() / 1_000)).toBeLessThan(60)
    expect((await served.ask('/metrics')).text).not.toContain('find-')
  })

  test.each([
    ['0'.repeat(32), 'a', '{request_id="a"}'],
    ['4BF92F3577B34DA6A3CE929D0E0E4736', 'a', '{request_id="a"}'],
    [undefined, 'a'.repeat(118), `{request_id="${'a'.repeat(118)}"}`],
    [undefined, 'a'.repeat(119), '{}'],
    ['1'.repeat(32), 'a'.repeat(79), `{trace_id="${'1'.repeat(32)}"}`],
  ])(
    'have no wrong trace, and no exemplar above 128 characters: %s %s',
    async (trace, id, labels) => {
      await calc()
      const traceparent = trace && { traceparent: `00-${trace}-00f067aa0ba902b7-01` }
      const headers = { 'x-request-id': id, ...traceparent }
      await (await served.session.client().get('http://calc/', { headers })).text()
      const accept = 'application/openmetrics-text'
      const { text } = await served.ask('/metrics', { headers: { accept } })
      expect(text).toContain(` # ${labels} `)
    },
  )
})

describe('clusters', () => {
  test('are listed and shown, by host or by URL', async () => {
    await calc()
    const { json } = await served.ask('/api/clusters')
    expect(json.clusters).toMatchObject([
      { name: 'calc', url: 'http://calc', size: 2, failure: null },
    ])
    for (const name of ['calc', 'CALC', encodeURIComponent('http://calc')]) {
      const one = await served.ask(`/api/clusters/${name}`)
      expect([one.status, one.json.url, one.json.instances.length]).toEqual([200, 'http://calc', 2])
    }
  })

  test('of one host are named by their URLs', async () => {
    served.session.startup({ url: 'http://calc/v1', initSize: 0 })
    served.session.startup({ url: 'http://calc/v2', initSize: 0 })
    const { json } = await served.ask('/api/clusters')
    const names = json.clusters.map(({ name }: { name: string }) => name)
    expect(names).toEqual(['http://calc/v1', 'http://calc/v2'])
    const vague = await served.ask('/api/clusters/calc')
    expect([vague.status, vague.json.detail]).toEqual([
      404,
      'calc can mean http://calc/v1, http://calc/v2',
    ])
    const exact = await served.ask(`/api/clusters/${encodeURIComponent('http://calc/v2')}`)
    expect(exact.json.url).toBe('http://calc/v2')
  })

  test('that are not there are 404 with our code', async () => {
    const { status, json } = await served.ask('/api/clusters/nobody')
    expect([status, json.code]).toEqual([404, 'MANYHOST_UNKNOWN_SERVICE'])
  })

  test('get another size', async () => {
    await calc(1)
    const { status, json } = await put('/api/clusters/calc/size', '{"size": 3}')
    expect([status, json.name, json.size]).toEqual([200, 'calc', 3])
    await waitUntilReady(served.session, 'http://calc', 3)
  })

  test.each([
    ['', 400, 'MANYHOST_INVALID_OPTION'],
    ['{', 400, 'MANYHOST_INVALID_OPTION'],
    ['[3]', 400, 'MANYHOST_INVALID_OPTION'],
    ['null', 400, 'MANYHOST_INVALID_OPTION'],
    ['{}', 400, 'MANYHOST_INVALID_SIZE'],
    ['{"size": -1}', 400, 'MANYHOST_INVALID_SIZE'],
    ['{"size": 1.5}', 400, 'MANYHOST_INVALID_SIZE'],
    ['{"size": 1e999}', 400, 'MANYHOST_INVALID_SIZE'],
    ['{"size": "3"}', 400, 'MANYHOST_INVALID_SIZE'],
    ['{"size": {"valueOf": 3}}', 400, 'MANYHOST_INVALID_SIZE'],
    ['{"size": null}', 400, 'MANYHOST_INVALID_SIZE'],
    ['{"size": 3, "seize": 3}', 400, 'MANYHOST_INVALID_OPTION'],
    [`{"size": ${' '.repeat(70_000)}3}`, 413, 'MANYHOST_INVALID_OPTION'],
  ])('refuse the body %.30s', async (body, status, code) => {
    await calc(1)
    const answer = await put('/api/clusters/calc/size', body)
    expect([answer.status, answer.json.status, answer.json.code]).toEqual([status, status, code])
    expect(served.session.cluster('http://calc').size).toBe(1)
  })

  test('refuse a body without a known length as soon as it is too long, and a coded one', async () => {
    await calc(1)
    const chunked = { ...JSON_TYPE, 'transfer-encoding': 'chunked' }
    expect((await put('/api/clusters/calc/size', Buffer.alloc(200_000, 32), chunked)).status).toBe(
      413,
    )
    const coded = { ...JSON_TYPE, 'content-encoding': 'gzip' }
    expect((await put('/api/clusters/calc/size', '{"size":3}', coded)).status).toBe(415)
  })

  test('restart without a gap, one time only when asked twice', async () => {
    await calc()
    const before = served.session.cluster('http://calc').instances.map(({ id }) => id)
    const both = await Promise.all([
      post('/api/clusters/calc/restart?wait=1'),
      post('/api/clusters/calc/restart?wait=1'),
    ])
    expect(both.map(({ status }) => status)).toEqual([200, 200])
    await waitUntil(() => served.session.cluster('http://calc').instances.length === 2)
    const after = served.session.cluster('http://calc').instances.map(({ id }) => id)
    expect(after.filter((id) => before.includes(id))).toEqual([])
    expect(after.map((id) => Number(id.split('-').at(-1)))).toEqual([3, 4])
    expect((await post('/api/clusters/calc/restart')).status).toBe(202)
    expect((await post('/api/clusters/calc/restart?wait=maybe')).status).toBe(400)
  })

  test('say why a restart did not work, and keep what they have', async () => {
    const provider = faults(served.provider, {})
    served.session.startup({ url: 'http://once', startTimeout: 300, provider })
    await waitUntilReady(served.session, 'http://once', 1)
    provider.set({ startFailure: { percentage: 100 } })
    const { status, json } = await post('/api/clusters/once/restart?wait=1')
    expect([status, json.code]).toEqual([503, 'MANYHOST_START_FAILED'])
    await waitUntilReady(served.session, 'http://once', 1)
  })
})

describe('instances', () => {
  const ids = (): string[] => served.session.cluster('http://calc').instances.map(({ id }) => id)

  test.each(['drain', 'restart'])('%s: another one takes its place', async (verb) => {
    await calc()
    const [id = ''] = ids()
    const { status, json } = await post(`/api/clusters/calc/instances/${id}/${verb}`)
    expect([status, json.name]).toEqual([202, 'calc'])
    await waitUntil(() => !ids().includes(id))
    await waitUntilReady(served.session, 'http://calc', 2)
  })

  test.each(['drain', 'restart'])('%s of nobody is 404', async (verb) => {
    await calc(1)
    expect((await post(`/api/clusters/calc/instances/nobody/${verb}`)).status).toBe(404)
    expect((await post(`/api/clusters/nobody/instances/${ids()[0]}/${verb}`)).status).toBe(404)
    expect((await served.ask('/api/clusters/calc/instances/nobody/logs')).status).toBe(404)
  })
})

describe('everything else', () => {
  test.each([
    ['GET', '/nothing', 404, undefined],
    ['GET', '/api/clusters/', 404, undefined],
    ['GET', '/api/clusters/calc/', 404, undefined],
    ['GET', '/../etc/passwd', 404, undefined],
    ['GET', '/%2e%2e/package.json', 404, undefined],
    ['GET', '/assets.ts', 404, undefined],
    ['GET', '/api/clusters/%zz', 400, undefined],
    ['DELETE', '/api/clusters', 405, 'GET, HEAD, OPTIONS'],
    ['GET', '/api/clusters/calc/size', 405, 'PUT, OPTIONS'],
    ['POST', '/', 405, 'GET, HEAD, OPTIONS'],
    ['POST', '/metrics', 405, 'GET, HEAD, OPTIONS'],
  ])('%s %s is %i', async (method, path, status, allow) => {
    const answer = await served.ask(path, { method, headers: JSON_TYPE })
    expect([answer.status, answer.headers.allow]).toEqual([status, allow])
    expect(answer.json).toMatchObject({ type: 'about:blank', status, detail: expect.any(String) })
  })

  test('HEAD has the head of GET, OPTIONS says what there is', async () => {
    const head = await served.ask('/api/clusters', { method: 'HEAD' })
    expect([head.status, head.text]).toEqual([200, ''])
    expect((await served.ask('/api/events', { method: 'HEAD' })).status).toBe(200)
    const options = await served.ask('/api/clusters/calc/size', { method: 'OPTIONS' })
    expect([options.status, options.headers.allow]).toEqual([204, 'PUT, OPTIONS'])
  })

  test('every answer is guarded', async () => {
    for (const path of ['/', '/app.js', '/api/clusters', '/metrics', '/nothing', '/livez']) {
      const { headers } = await served.ask(path)
      expect(headers, path).toMatchObject({
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
        'x-frame-options': 'DENY',
        'content-security-policy': expect.stringMatching(/^default-src 'none'; script-src 'self';/),
      })
      expect(headers['access-control-allow-origin']).toBeUndefined()
    }
  })

  test('a client that leaves in the middle of its body leaves nothing', async () => {
    await calc(1)
    const socket = connect(served.port, '127.0.0.1')
    socket.end(
      'PUT /api/clusters/calc/size HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"size"',
    )
    await new Promise((resolve) => socket.once('close', resolve).resume())
    expect((await served.ask('/livez')).status).toBe(200)
    expect(served.session.cluster('http://calc').size).toBe(1)
  })
})
