/** The OpenAPI document is valid, has all routes and no others, and the answers are as it says. */
import { Validator } from '@seriousme/openapi-schema-validator'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ADMIN_ROUTES } from '../../src/gateway/admin/routes.ts'
import { expectNothingLeft } from '../leftovers.ts'
import {
  type AdminFixture,
  type AdminTestResponse,
  JSON_TYPE,
  type Json,
  openAdminFixture,
  waitUntilReady,
} from './admin-fixture.ts'

expectNothingLeft()

let served: AdminFixture
let document: Json

beforeAll(async () => {
  served = await openAdminFixture({ version: '9.9.9' })
  served.session.startup({ url: 'http://calc', initSize: 2, maxSize: 5 })
  await waitUntilReady(served.session, 'http://calc', 2)
  await (await served.session.client().get('http://calc/')).text()
  document = (await served.ask('/api/openapi.json')).json
})
afterAll(() => served[Symbol.asyncDispose]())

/** What is wrong with an answer, by the document: its type, or its body. */
function wrong(path: string, method: string, answer: AdminTestResponse): unknown {
  const operation = document.paths[path][method]
  let response = operation.responses[answer.status] ?? operation.responses.default
  if (response.$ref) response = document.components.responses.Problem
  const type = answer.headers['content-type']?.split(';')[0] ?? ''
  const content = response.content[type]
  if (!content) return `${type} is none of ${Object.keys(response.content)}`
  if (answer.json === undefined) return undefined
  const ajv = new Ajv2020({ strict: false, validateFormats: false })
  ajv.addSchema({ $id: 'document', components: document.components })
  const schema = JSON.parse(JSON.stringify(content.schema).replaceAll('"#/', '"document#/'))
  const validate = ajv.compile(schema)
  return validate(answer.json) ? undefined : validate.errors
}

describe('openapi.json', () => {
  test('is valid OpenAPI 3.1', async () => {
    expect(document.openapi).toBe('3.1.0')
    expect(document.info.version).toBe('9.9.9')
    expect(await new Validator().validate(document)).toMatchObject({ valid: true })
  })

  test('has every route once, with a summary and an id of its own', () => {
    const told = Object.entries(document.paths as Record<string, object>).flatMap(
      ([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    )
    expect(told.toSorted()).toEqual(
      ADMIN_ROUTES.map(({ method, path }) => `${method} ${path}`).toSorted(),
    )
    expect(new Set(ADMIN_ROUTES.map(({ id }) => id)).size).toBe(ADMIN_ROUTES.length)
  })

  test.each(
    ADMIN_ROUTES.filter(({ id }) => id !== 'events').map(
      (route) => [route.method, route.path, route] as const,
    ),
  )('%s %s answers as it says', async (method, path, { requestSchema: takes, success }) => {
    const fill = (name: string, id: string): string =>
      path.replace('{name}', name).replace('{id}', id)
    const id = served.session
      .cluster('http://calc')
      .instances.find(({ state }) => state === 'ready')?.id
    const asked = { method, headers: JSON_TYPE, ...(takes && { body: '{"size": 2}' }) }
    const answer = await served.ask(fill('calc', id ?? ''), asked)
    expect([answer.status, wrong(path, method.toLowerCase(), answer)]).toEqual([success, undefined])
    const foreign = await served.ask(fill('calc', id ?? ''), {
      ...asked,
      headers: { origin: 'http://evil' },
    })
    expect(wrong(path, method.toLowerCase(), foreign)).toBeUndefined()
    if (!path.includes('{')) return
    const nobody = await served.ask(fill('nobody', 'nobody'), asked)
    expect([nobody.status, wrong(path, method.toLowerCase(), nobody)]).toEqual([404, undefined])
  })
})
