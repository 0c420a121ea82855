/** `createGateway(session, { admin })`: the admin address of a gateway that is used as a library. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { inProcess } from '../../providers/testing/index.ts'
import { createGateway, type GatewayOptions } from '../../src/gateway/index.ts'
import { Session } from '../../src/index.ts'
import { SessionCore as Core } from '../../src/session/session.ts'
import { createLatch } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import { portBase } from '../ports.ts'
import { waitUntilReady } from './admin-fixture.ts'
import { cleanUp, onCleanup, waitUntil } from './gateway-fixture.ts'

expectNothingLeft()

afterEach(cleanUp)

const LOCAL = '127.0.0.1:0'

function begun(handler = (_req: unknown, res: { end(text: string): void }) => res.end('ok')) {
  const session = new Session({ provider: inProcess(handler, { style: 'node' }) })
  session.startup({ url: 'http://calc' })
  onCleanup(() => session.close({ force: true }))
  return session
}

async function open(session: Session, options: GatewayOptions) {
  const gateway = await createGateway(session, { listen: LOCAL, ...options })
  onCleanup(() => gateway.close())
  return gateway
}

test('opens both addresses, and the metrics are those of the session', async () => {
  const session = begun()
  await waitUntilReady(session, 'http://calc', 1)
  const { url, adminUrl } = await open(session, { admin: { listen: LOCAL } })
  expect(await (await fetch(`${url}/calc/`)).text()).toBe('ok')
  const metrics = await (await fetch(`${adminUrl}/metrics`)).text()
  expect(metrics).toMatch(/manyhost_requests_total\{service="http:\/\/calc".*code="200".*\} 1/)
  expect(await (await fetch(`${adminUrl}/`)).text()).toContain('<!doctype html>')
  const document = await (await fetch(`${adminUrl}/api/openapi.json`)).text()
  expect(JSON.parse(document).info.version).toMatch(/^\d+\.\d+\.\d+/)
  const size = { method: 'PUT', headers: { 'content-type': 'application/json' } }
  const put = await fetch(`${adminUrl}/api/clusters/calc/size`, { ...size, body: '{"size":3}' })
  expect(put.status).toBe(200)
  expect(session.cluster('http://calc').size).toBe(3)
  const asked = await fetch(`${adminUrl}/api/request/calc/x`, {
    headers: { 'x-requested-with': 'a test' },
  })
  expect(await asked.text()).toBe('ok')
})

test('has none unless it is asked for', async () => {
  expect((await open(begun(), {})).adminUrl).toBeUndefined()
})

test('asks for its token, and listens on several addresses', async () => {
  const admin = { listen: [LOCAL, { host: '127.0.0.2', port: 0 }], token: 's3cret' }
  const { adminUrl } = await open(begun(), { admin })
  expect((await fetch(`${adminUrl}/api/clusters`)).status).toBe(401)
  const headers = { authorization: 'Bearer s3cret' }
  expect((await fetch(`${adminUrl}/api/clusters`, { headers })).status).toBe(200)
})

test.each([
  [{ listen: '0.0.0.0:0' }, /admin.token is missing/],
  [{ listen: '[::]:0' }, /admin.token is missing/],
  [
    { listen: '0.0.0.0:0', token: 'two words' },
    /admin: token must be a text of visible ASCII.* not shown/,
  ],
  [{ listen: 'nowhere' }, /admin: listen must be .*, got "nowhere"/],
  [{ listen: [] }, /admin: listen must be/],
  [{ tokn: 'x' }, /admin: unknown option 'tokn'/],
  [{ token: 3 }, /admin: token must be/],
  [true, /admin must be \{ listen, token \}/],
])('refuses admin: %j', async (admin, message) => {
  const opened = createGateway(begun(), { listen: LOCAL, admin } as GatewayOptions)
  await expect(opened).rejects.toThrow(message)
})

test('an address that is taken opens neither', async () => {
  const other = createServer().listen(0, '127.0.0.1')
  onCleanup(async () => other.close())
  await new Promise((resolve) => other.once('listening', resolve))
  const taken = (other.address() as AddressInfo).port
  const admin = { listen: `127.0.0.1:${taken}` }
  const opened = createGateway(begun(), { listen: `127.0.0.1:${portBase}`, admin })
  await expect(opened).rejects.toThrow(/admin: cannot listen on .*: it is taken/)
  await expect(fetch(`http://127.0.0.1:${portBase}/`)).rejects.toThrow()
})

test('a session that counts nothing has no admin address', async () => {
  const session = new Core({ provider: inProcess(() => 'ok') })
  onCleanup(() => session.close())
  const opened = createGateway(session, { listen: LOCAL, admin: { listen: LOCAL } })
  await expect(opened).rejects.toThrow(/the session has no metrics/)
})

test('is not ready while it drains, and closes last', async () => {
  const hold = createLatch()
  const session = begun(async (_req, res) => {
    await hold.promise
    res.end('late')
  })
  await waitUntilReady(session, 'http://calc', 1)
  const gateway = await open(session, { admin: { listen: LOCAL } })
  const { url, adminUrl } = gateway
  expect((await fetch(`${adminUrl}/readyz`)).status).toBe(200)
  const answer = fetch(`${url}/calc/`)
  await waitUntil(() => session.cluster('http://calc').inFlight === 1)
  const stream = await fetch(`${adminUrl}/api/events`)
  const closed = gateway.close()
  expect((await fetch(`${adminUrl}/readyz`)).status).toBe(503)
  hold.open()
  expect(await (await answer).text()).toBe('late')
  await closed
  await expect(stream.text()).rejects.toThrow()
  await expect(fetch(`${adminUrl}/livez`)).rejects.toThrow()
  await gateway.close()
})

test('drains by other options, too', async () => {
  const session = begun()
  await waitUntilReady(session, 'http://calc', 1)
  const gateway = await open(session, {})
  gateway.drain()
  gateway.update({})
  const { headers } = await fetch(`${gateway.url}/calc/`)
  expect(headers.get('connection')).toBe('close')
})
