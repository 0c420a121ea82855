/** FACTS 5b, line by line, and the rows T1 to T15 that are not a worker's or a client's. */
import { request as rawRequest } from 'node:http'
import { describe, expect, it } from 'vitest'
import { useFalseClock } from '../../clock.ts'
import { ADDER, completeJob, openTestHub } from './help.ts'

const NOBODY = '/services/00000000-0000-4000-8000-000000000000'
const NO_JOB = '/jobs/00000000-0000-4000-8000-000000000000'

describe('the API of the original, path by path', () => {
  it('GET / shows the option `about` (T11: the names of its settings)', async () => {
    const about = { version: '7', maintainer_name: 'me', documentation_url: 'https://docs.test' }
    const hub = await openTestHub({ about })
    const { status, body } = await hub.ask('GET', '/')
    expect(status).toBe(200)
    expect(body).toEqual({ data: about, meta: expect.anything(), links: { self: `${hub.url}/` } })
    const plain = await (await openTestHub()).ask('GET', '/')
    expect(Object.keys(plain.body.data)).toEqual([
      'documentation_url',
      'maintainer_email',
      'maintainer_name',
      'source_code_repository_url',
      'version',
    ])
  })

  it('T1: POST /services registers, GET /services lists', async () => {
    const hub = await openTestHub()
    const created = await hub.ask('POST', '/services', { json: ADDER })
    expect(created.status).toBe(201)
    const location = created.headers.get('location') ?? ''
    expect(location.replace(hub.url, '')).toMatch(/^\/services\/[0-9a-f-]{36}$/)
    expect(created.body.data).toEqual({ message: 'service successfully created' })
    expect(created.body.links).toEqual({ self: `${hub.url}/services` })
    const id = location.split('/').at(-1)
    const list = await hub.ask('GET', '/services')
    expect(list.body.data).toEqual([{ id, name: 'adder', description: 'adds' }])
    expect(list.body.links.self).toBe(`${hub.url}/services`)
  })

  it('T1, T9: one answer has an error for each key that is missing', async () => {
    const hub = await openTestHub()
    const { status, body } = await hub.ask('POST', '/services', { json: { name: 'x' } })
    expect(status).toBe(400)
    expect(body.errors).toHaveLength(3)
    expect(body.errors[0]).toEqual({
      title: 'Deserialization Error From Client Data',
      detail: "Valdation of key 'description' threw error '['Missing data for required field.']'.",
      status_code: 400,
    })
    const long = { ...ADDER, name: 'n'.repeat(31), description: 'd'.repeat(1_001) }
    expect((await hub.ask('POST', '/services', { json: long })).body.errors).toHaveLength(2)
  })

  it('a POST that is not JSON, or has another content type, is refused', async () => {
    const hub = await openTestHub()
    const type = { 'content-type': 'application/json' }
    const json = JSON.stringify(ADDER)
    for (const ask of [
      { text: '{"name": ', headers: type },
      { text: json, headers: { 'content-type': 'text/plain' } },
      { text: '', headers: type },
      { text: '[1]', headers: type },
      { text: 'null', headers: type },
      { text: '\u0000', headers: type },
    ]) {
      const { status, body } = await hub.ask('POST', '/services', ask)
      expect([status, body.errors[0].title]).toEqual([400, 'Request Not JSON'])
      expect(body.errors[0].detail).toMatch(/^Could not undertand input\. Either it is not JSON/)
    }
  })

  it('GET /services/<id> shows the whole service', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    const job = await hub.submit(service, { a: 1 })
    const { status, body } = await hub.ask('GET', service)
    expect(status).toBe(200)
    expect(body.data).toEqual({
      description: 'adds',
      has_timed_out: false,
      id: service.slice('/services/'.length),
      is_service_available: false,
      job_registration_schema: ADDER.job_registration_schema,
      job_result_schema: ADDER.job_result_schema,
      jobs: [
        {
          id: job.slice('/jobs/'.length),
          date_submitted: expect.any(String),
          status: 'REGISTERED',
        },
      ],
      name: 'adder',
      timeout: 30,
    })
  })

  it('texts that are no id, and unknown ids, get 404', async () => {
    const hub = await openTestHub()
    for (const [path, title] of [
      [NOBODY, 'Service Not Found'],
      [`${NOBODY}/queue`, 'Service Not Found'],
      [`${NOBODY}/next`, 'Service Not Found'],
      ['/services/xyz', 'Not UUID Error'],
      ['/services/..%2f..%2fetc/next', 'Not UUID Error'],
      [NO_JOB, 'Job Not Found'],
      ['/jobs/12', 'Not UUID Error'],
      [`/jobs/${'0'.repeat(5_000)}`, 'Not UUID Error'],
    ]) {
      const { status, body } = await hub.ask('GET', path as string)
      expect([status, body.errors[0].title]).toEqual([404, title])
    }
    const odd = await hub.ask('GET', '/jobs/not-a-uuid')
    expect(odd.body.errors[0].detail).toBe('The string not-a-uuid could not be converted to a UUID')
    const { body } = await hub.ask('GET', NO_JOB)
    expect(body.errors[0].detail).toBe(
      'A job with id 00000000-0000-4000-8000-000000000000 was not found',
    )
  })

  it('T2: an empty PATCH checks in; has_timed_out follows the timeout, not the flag', async () => {
    const clock = useFalseClock()
    const hub = await openTestHub()
    const service = await hub.service({ timeout: 0.05 })
    const isLate = async () => (await hub.ask('GET', service)).body.data.has_timed_out
    await clock.pass(50)
    expect(await isLate()).toBe(false)
    await clock.pass(1)
    expect(await isLate()).toBe(true)
    await hub.ask('PATCH', service, { json: { timeout: 30 } })
    const { status, body } = await hub.ask('PATCH', service)
    expect(status).toBe(200)
    expect(body).toEqual({ meta: expect.stringMatching(/^Service checked in at \d{4}-\d\d-\d\dT/) })
    expect(await isLate()).toBe(false)
    expect((await hub.ask('PATCH', NOBODY)).status).toBe(404)
  })

  it('T3: PATCH changes a service, and counts as a check-in', async () => {
    const clock = useFalseClock()
    const hub = await openTestHub()
    const service = await hub.service({ timeout: 0.05 })
    await clock.pass(51)
    expect((await hub.ask('GET', service)).body.data.has_timed_out).toBe(true)
    const changes = { is_available: true, name: 'new', description: 'better', timeout: 60 }
    const { status, body } = await hub.ask('PATCH', service, { json: changes })
    expect(status).toBe(200)
    expect(body.data).toMatchObject({
      is_service_available: true,
      name: 'new',
      description: 'better',
      timeout: 60,
      has_timed_out: false,
    })
    const wrong = await hub.ask('PATCH', service, { json: { timeout: -1 } })
    expect([wrong.status, wrong.body.errors[0].detail]).toEqual([
      400,
      "Valdation of key 'timeout' threw error '['Attempted to set a negative timeout duration']'.",
    ])
    expect((await hub.ask('PATCH', service, { json: { name: 7 } })).status).toBe(400)
  })

  it('T4: a job is checked by the schema, and becomes REGISTERED', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    const { status, headers, body } = await hub.ask('POST', `${service}/jobs`, {
      json: { parameters: { a: 3 } },
    })
    expect(status).toBe(201)
    const id = body.data.id
    expect(headers.get('location')).toBe(`${hub.url}/jobs/${id}`)
    expect(body).toEqual({
      data: {
        date_submitted: expect.any(String),
        id,
        parameters: { a: 3 },
        results: null,
        status: 'REGISTERED',
      },
      meta: `new job ID is ${id}`,
      links: { self: `${hub.url}/jobs/${id}` },
    })
    const wrong = await hub.ask('POST', `${service}/jobs`, { json: { parameters: { a: 99 } } })
    expect(wrong.status).toBe(400)
    expect(wrong.body.errors).toEqual([
      {
        title: 'JSONSchema Validation Error',
        detail: 'Validation of schema [] threw error 99 is greater than the maximum of 10',
        status_code: 400,
        source: { pointer: '/a' },
      },
    ])
    for (const json of [{}, { parameters: 1 }, { parameters: null }, []]) {
      expect((await hub.ask('POST', `${service}/jobs`, { json })).status).toBe(400)
    }
  })

  it('T5: queue shows the ten oldest, 204 when there is none; /jobs shows all', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    expect((await hub.ask('GET', `${service}/queue`)).status).toBe(204)
    expect((await hub.ask('GET', `${service}/jobs/next`)).status).toBe(204)
    expect((await hub.ask('GET', `${service}/next`)).status).toBe(204)
    const paths: string[] = []
    for (let i = 0; i < 12; i++) paths.push(await hub.submit(service, { a: i % 10 }))
    const ids = paths.map((path) => path.slice('/jobs/'.length))
    const queue = await hub.ask('GET', `${service}/queue`)
    expect(queue.body.data.map(({ id }: { id: string }) => id)).toEqual(ids.slice(0, 10))
    const all = await hub.ask('GET', '/jobs')
    expect(all.body.data.map(({ id }: { id: string }) => id)).toEqual(ids)
    expect(Object.keys(all.body.data[0]).toSorted()).toEqual(['date_submitted', 'id', 'status'])
    const own = await hub.ask('GET', `${service}/jobs`)
    expect(own.body.data).toHaveLength(12)
    expect(own.body.meta.new_job_schema.properties.parameters).toEqual(
      ADDER.job_registration_schema,
    )
  })

  it.each(['next', 'jobs/next'])('GET /services/<id>/%s is a claim: oldest first', async (next) => {
    const hub = await openTestHub()
    const service = await hub.service()
    const first = await hub.submit(service, { a: 1 })
    await hub.submit(service, { a: 2 })
    // The worker of the original sends a content type with its GET.
    const headers = { 'content-type': 'application/json' }
    const claim = await hub.ask('GET', `${service}/${next}`, { headers })
    expect(claim.status).toBe(200)
    expect(claim.body.data).toMatchObject({ parameters: { a: 1 }, status: 'WORKING' })
    expect(claim.body.links.self).toBe(hub.url + first)
    expect(claim.body.meta.lease).toEqual({
      token: expect.any(String),
      seconds: 60,
      body_size: 1_048_576,
    })
    expect((await hub.ask('GET', `${service}/${next}`)).body.data.parameters).toEqual({ a: 2 })
    expect((await hub.ask('GET', `${service}/${next}`)).status).toBe(204)
  })

  it('T6: PATCH /jobs/<id> answers with the bare job; its results obey the schema', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    const job = await hub.submit(service, { a: 1 })
    const claim = await hub.claim(service)
    const wrong = await completeJob(hub, claim, { b: 'two' })
    expect([wrong.status, wrong.body.errors[0].title]).toEqual([400, 'JSONSchema Validation Error'])
    const unknown = await hub.ask('PATCH', job, { json: { status: 'DONE' } })
    expect(unknown.status).toBe(400)
    expect(unknown.body.errors[0].detail).toBe(
      "Valdation of key 'status' threw error '['Unknown value for job status enum']'.",
    )
    const done = await completeJob(hub, claim, { b: 2 })
    expect(done.status).toBe(200)
    expect(done.body).toEqual({
      date_submitted: expect.any(String),
      id: job.slice('/jobs/'.length),
      parameters: { a: 1 },
      results: { b: 2 },
      status: 'COMPLETED',
    })
    const seen = await hub.ask('GET', job)
    expect(seen.body.data).toEqual(done.body)
  })

  it('T7: /validator, by GET and POST', async () => {
    const hub = await openTestHub()
    const schema = { type: 'object', properties: { a: { type: 'integer' } } }
    const good = await hub.ask('POST', '/validator', { json: { schema, object: { a: 1 } } })
    expect([good.status, good.body.data]).toEqual([200, { status: 'Validation was successful' }])
    const bad = await hub.ask('POST', '/validator', { json: { schema, object: { a: 'x' } } })
    expect([bad.status, bad.body.errors[0].detail]).toEqual([
      400,
      "Validation of schema [] threw error 'x' is not of type 'integer'",
    ])
    expect((await hub.ask('POST', '/validator', { json: { schema, object: 1 } })).status).toBe(400)
    // fetch sends no body with a GET; the original's clients do.
    const status = await new Promise((resolve, reject) => {
      const body = JSON.stringify({ schema, object: {} })
      const headers = { 'content-type': 'application/json', 'content-length': body.length }
      rawRequest(`${hub.url}/validator`, { method: 'GET', headers }, (response) => {
        response.resume()
        resolve(response.statusCode)
      })
        .on('error', reject)
        .end(body)
    })
    expect(status).toBe(200)
  })

  it('T8: answers carry the schemas of what may be sent, and their own URL', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    const { body } = await hub.ask('GET', service)
    expect(Object.keys(body.meta)).toEqual(['service_schema', 'patch_schema'])
    expect(body.links.self).toBe(hub.url + service)
  })

  it('T10: X-HTTP-Method-Override on a POST', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    const headers = { 'x-http-method-override': 'PATCH' }
    expect((await hub.ask('POST', service, { headers })).body.meta).toMatch(/^Service checked in/)
    const json = { name: 'renamed' }
    expect((await hub.ask('POST', service, { headers, json })).body.data.name).toBe('renamed')
    const odd = await hub.ask('POST', service, { headers: { 'x-http-method-override': 'TRACE' } })
    expect(odd.status).toBe(400)
    expect((await hub.ask('POST', service)).status).toBe(405)
  })

  it('another method is 405 with Allow, another path 404, both as JSON', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    const wrong = await hub.ask('DELETE', service)
    expect([wrong.status, wrong.headers.get('allow')]).toEqual([405, 'GET, PATCH'])
    expect(wrong.body.errors[0].title).toBe('Method Not Allowed')
    expect((await hub.ask('GET', '/nothing')).body.errors[0].title).toBe('Not Found')
  })

  it('the first version’s paths: PUT of jobs, /jobs/<id>/next, /echo', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    const [one, two] = [await hub.submit(service, { a: 1 }), await hub.submit(service, { a: 2 })]
    const next = await hub.ask('GET', `${one}/next`)
    expect([next.status, next.headers.get('location')]).toEqual([302, hub.url + two])
    expect((await hub.ask('GET', `${two}/next`)).status).toBe(204)
    const json = { status: 'COMPLETED', result: { b: 1 } }
    const put = await hub.ask('PUT', one, { json })
    expect([put.status, put.body.results]).toEqual([200, { b: 1 }])
    const nested = await hub.ask('PUT', `${service}${two}`, { json })
    expect([nested.status, nested.body.status]).toEqual([200, 'COMPLETED'])
    expect((await hub.ask('POST', '/echo', { json: { x: 1 } })).body.data).toEqual({ x: 1 })
  })

  it('lists come in pages', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    const ids: string[] = []
    for (let i = 0; i < 7; i++) ids.push((await hub.submit(service, { a: 1 })).slice(6))
    for (const list of ['/jobs', `${service}/jobs`]) {
      const seen: string[] = []
      let path: string | undefined = `${list}?limit=3`
      while (path) {
        const { body, headers } = await hub.ask('GET', path)
        seen.push(...body.data.map(({ id }: { id: string }) => id))
        const next: string | undefined = body.links.next
        expect(headers.get('link') ?? undefined).toBe(next && `<${next}>; rel="next"`)
        path = next?.slice(hub.url.length)
      }
      expect(seen).toEqual(ids)
    }
    expect((await hub.ask('GET', '/jobs?limit=0')).status).toBe(400)
    expect((await hub.ask('GET', '/jobs?after=x')).status).toBe(404)
  })

  it('is mounted at a prefix, by a handler', async () => {
    const { createServer } = await import('node:http')
    const { workers } = await import('../../../providers/pull/index.ts')
    const provider = workers({ prefix: '/workers' })
    const server = createServer(provider.handler)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const root = `http://127.0.0.1:${port}`
    expect((await fetch(`${root}/services`)).status).toBe(404)
    const headers = { 'content-type': 'application/json' }
    const body = JSON.stringify(ADDER)
    const made = await fetch(`${root}/workers/services`, { method: 'POST', headers, body })
    const location = made.headers.get('location') ?? ''
    expect(location.replace(root, '')).toMatch(/^\/workers\/services\//)
    expect((await fetch(location)).status).toBe(200)
    await provider.close?.()
    server.closeAllConnections()
    server.close()
  })
})
