/** Costly checks by JSON Schemas: they do not block the event loop, and they are bounded. */
import { describe, expect, it } from 'vitest'
import { waitUntil } from '../../help.ts'
import { openTestHub } from './help.ts'
import meta from './topchef-meta.json' with { type: 'json' }

/** A check by this schema takes as long as a check may. */
const SLOW = { type: 'object', properties: { s: { type: 'string', pattern: '^(a+)+$' } } }
const HOSTILE = { s: `${'a'.repeat(60)}!` }

describe('costly checks', () => {
  it('other requests are answered while /validator checks', async () => {
    const hub = await openTestHub()
    const order: string[] = []
    const json = { schema: SLOW, object: HOSTILE }
    // One check before, so that the thread has started.
    await hub.ask('POST', '/validator', { json: { schema: {}, object: {} } })
    const slow = Array.from({ length: 4 }, () =>
      hub.ask('POST', '/validator', { json }).then(({ status }) => order.push(`slow ${status}`)),
    )
    for (let i = 0; i < 5; i++) {
      await hub.ask('GET', '/services')
      order.push('quick')
    }
    await Promise.all(slow)
    // If checks blocked the event loop, a slow answer would come before the first quick one.
    expect(order.slice(0, 2)).toEqual(['quick', 'quick'])
    expect(order.filter((what) => what === 'slow 400')).toHaveLength(4)
  })

  it('callers of /validator beyond the limit get 503 with Retry-After', async () => {
    const hub = await openTestHub()
    const json = { schema: SLOW, object: HOSTILE }
    const gone = new AbortController()
    const { signal } = gone
    const all = Array.from({ length: 40 }, () => hub.ask('POST', '/validator', { json, signal }))
    const first = await Promise.race(all.map((one, i) => one.then((reply) => ({ i, reply }))))
    expect([first.reply.status, first.reply.headers.get('retry-after')]).toEqual([503, '1'])
    // A check with another key comes after the current one, not after all that wait.
    const service = await hub.service({ job_registration_schema: SLOW })
    expect(await hub.submit(service, { s: 'aaa' })).toMatch(/^\/jobs\//)
    // Checks of callers that have gone are skipped, so a new one does not wait for 30 others.
    gone.abort()
    await Promise.allSettled(all)
    const late = { json: { schema: {}, object: {} } }
    await waitUntil(async () => (await hub.ask('POST', '/validator', late)).status === 200)
  })

  it('a schema that takes too long to compile is refused, and the hub goes on', async () => {
    const hub = await openTestHub()
    const properties = Object.fromEntries(
      Array.from({ length: 1_500 }, (_, i) => [`p${i}`, { anyOf: [{ type: 'string' }, {}] }]),
    )
    const json = { schema: { type: 'object', properties }, object: {} }
    expect([200, 400]).toContain((await hub.ask('POST', '/validator', { json })).status)
    expect((await hub.ask('GET', '/services')).status).toBe(200)
  })

  it.each([
    ['small and plain', { type: 'object', properties: { a: { type: 'integer', maximum: 10 } } }],
    [
      'with a pattern',
      { type: 'object', properties: { a: { type: 'integer', maximum: 10 }, p: { pattern: 'x' } } },
    ],
  ])('a schema that is %s refuses in the same words', async (_, schema) => {
    const hub = await openTestHub()
    const service = await hub.service({ job_registration_schema: schema })
    const { status, body } = await hub.ask('POST', `${service}/jobs`, {
      json: { parameters: { a: 99 } },
    })
    expect([status, body.errors]).toEqual([
      400,
      [
        {
          title: 'JSONSchema Validation Error',
          detail: 'Validation of schema [] threw error 99 is greater than the maximum of 10',
          status_code: 400,
          source: { pointer: '/a' },
        },
      ],
    ])
  })
})

describe('the schemas in `meta`', () => {
  it('are those of the original, path by path (T8)', async () => {
    const hub = await openTestHub()
    const registration = meta['/services/<id>/jobs'].new_job_schema.properties.parameters
    const service = await hub.service({ job_registration_schema: registration })
    const first = await hub.submit(service, { a: 3 })
    await hub.submit(service, { a: 4 })
    for (const [path, schemas] of Object.entries(meta)) {
      const known = path.startsWith('/jobs/') ? first : path.replace('/services/<id>', service)
      const { body } = await hub.ask('GET', known)
      for (const [name, schema] of Object.entries(schemas)) {
        expect([path, name, body.meta[name]]).toEqual([path, name, schema])
      }
    }
  })

  it('GET /validator shows what may be sent', async () => {
    const hub = await openTestHub()
    const { status, body } = await hub.ask('GET', '/validator')
    expect([status, body.meta.schema.required]).toEqual([200, ['schema', 'object']])
    expect(body.links.self).toBe(`${hub.url}/validator`)
  })
})
