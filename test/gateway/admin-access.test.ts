/** Who may call the admin API: the token, foreign pages, rebound names. */
import { afterEach, describe, expect, test } from 'vitest'
import { adminHandler } from '../../src/gateway/admin/handler.ts'
import { expectNothingLeft } from '../leftovers.ts'
import { type AdminFixture, JSON_TYPE, openAdminFixture, waitUntilReady } from './admin-fixture.ts'

expectNothingLeft()

let served: AdminFixture

afterEach(() => served[Symbol.asyncDispose]())

const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` })
const CHANGE = { method: 'PUT', body: '{"size": 2}' }

async function withCalc(options = {}): Promise<void> {
  served = await openAdminFixture(options)
  served.session.startup({ url: 'http://calc' })
  await waitUntilReady(served.session, 'http://calc', 1)
}

const change = (headers: Record<string, string>) =>
  served.ask('/api/clusters/calc/size', { ...CHANGE, headers })

describe('a token', () => {
  test('is asked for wherever there is something to see', async () => {
    await withCalc({ token: 's3cret' })
    for (const path of [
      '/metrics',
      '/api/clusters',
      '/api/events',
      '/api/openapi.json',
      '/api/clusters/calc',
    ]) {
      for (const headers of [{}, bearer('wrong'), bearer(''), { authorization: 's3cret' }]) {
        const answer = await served.ask(path, { headers })
        expect([answer.status, answer.json.code], path).toEqual([401, 'MANYHOST_UNAUTHORIZED'])
        expect(answer.headers['www-authenticate']).toBe('Bearer realm="manyhost"')
      }
    }
    expect((await served.ask('/api/clusters', { headers: bearer('s3cret') })).status).toBe(200)
    expect(
      (await served.ask('/metrics', { headers: { authorization: 'bearer  s3cret' } })).status,
    ).toBe(200)
    expect((await change(JSON_TYPE)).status).toBe(401)
    expect((await change({ ...JSON_TYPE, ...bearer('s3cret') })).status).toBe(200)
  })

  test('is not asked for by the page itself and by probes, which learn no reasons', async () => {
    await withCalc({ token: 's3cret', isReady: () => false })
    expect((await served.ask('/')).status).toBe(200)
    expect((await served.ask('/livez')).status).toBe(200)
    const { status, json } = await served.ask('/readyz')
    expect([status, json.reasons]).toEqual([503, undefined])
    const told = await served.ask('/readyz', { headers: bearer('s3cret') })
    expect(told.json.reasons).toEqual(['the gateway is not open'])
  })

  test('lets the server have any name', async () => {
    await withCalc({ token: 's3cret' })
    const headers = { host: 'admin.example:8443', ...bearer('s3cret') }
    expect((await served.ask('/api/clusters', { headers })).status).toBe(200)
  })

  test.each(['', 'two words', 'naïve', 'new\nline'])('cannot be %j', async (token) => {
    await withCalc()
    const { session } = served
    expect(() => adminHandler(session, { token, metrics: session.metrics })).toThrow(/token/)
  })
})

describe('a page of another origin', () => {
  test.each([
    'http://evil.example',
    'http://127.0.0.1:1',
    'null',
    'http://127.0.0.1.evil.example',
    '?',
  ])('such as %s may not call', async (origin) => {
    await withCalc()
    expect((await change({ ...JSON_TYPE, origin })).status).toBe(403)
    expect((await served.ask('/api/clusters', { headers: { origin } })).status).toBe(403)
    expect(served.session.cluster('http://calc').size).toBe(1)
  })

  test('our own may', async () => {
    await withCalc()
    expect((await change({ ...JSON_TYPE, origin: served.url })).status).toBe(200)
  })

  test('no form or image can change anything', async () => {
    await withCalc()
    for (const headers of [
      {},
      { 'content-type': 'text/plain' },
      { 'content-type': 'application/x-www-form-urlencoded' },
      { 'content-type': 'text/plain; application/json' },
      { ...JSON_TYPE, 'sec-fetch-site': 'cross-site' },
    ]) {
      expect((await change(headers as Record<string, string>)).status).toBe(403)
      const restart = { method: 'POST', headers: headers as Record<string, string> }
      expect((await served.ask('/api/clusters/calc/restart', restart)).status).toBe(403)
    }
    expect((await change({ 'x-requested-with': 'me' })).status).toBe(200)
    expect((await change({ 'content-type': 'application/json; charset=utf-8' })).status).toBe(200)
  })
})

describe('without a token', () => {
  test.each([
    'evil.example',
    'localhost.evil.example',
    '127.0.0.1.nip.io',
    'user@localhost',
    '10.0.0.1',
    '[::2]',
    'a b',
  ])('the name %s is nobody', async (host) => {
    await withCalc()
    expect((await served.ask('/api/clusters', { headers: { host } })).status).toBe(421)
    expect((await served.ask('/', { headers: { host } })).status).toBe(421)
    expect((await served.ask('/livez', { headers: { host } })).status).toBe(200)
  })

  test.each([
    'localhost',
    'localhost:9090',
    'LOCALHOST',
    'admin.localhost',
    '127.0.0.1',
    '127.9.9.9:1',
    '[::1]:9090',
  ])('the name %s is this machine', async (host) => {
    await withCalc()
    expect((await served.ask('/api/clusters', { headers: { host } })).status).toBe(200)
  })
})
