import { readFileSync } from 'node:fs'
import { Ajv2020, type ErrorObject } from 'ajv/dist/2020.js'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { buildFleetSchema } from '../../src/config/schema.ts'
import { starterConfig } from '../../src/config/starter.ts'
import { loadInvalid, loadText, serviceFile, VALID_FILE } from './config-fixture.ts'

const validate = new Ajv2020({ allErrors: true, strict: true, allowUnionTypes: true }).compile(
  buildFleetSchema(),
)

/** Places of what the schema has against a file; an editor reads it just so. */
function places(text: string): string[] {
  validate(parse(text, { merge: true }))
  return ((validate.errors ?? []) as ErrorObject[]).map(({ instancePath }) => instancePath)
}

describe('the schema', () => {
  it('is the one that is shipped', () => {
    const shipped = new URL('../../schema/fleet.schema.json', import.meta.url)
    expect(JSON.parse(readFileSync(shipped, 'utf8')), 'run: npm run schema').toEqual(
      buildFleetSchema(),
    )
  })

  it.each([
    ['all that can be said', VALID_FILE],
    ['the file of init', starterConfig()],
    ['nothing', 'services: {}'],
    ['keys without a value', 'services:\ngateway:\nadmin: false\nlog:'],
    ['a size of the environment', serviceFile('command: [a]', 'size: ${SIZE}', 'timeout: ${SIZE}')],
    ['a range', serviceFile('command: [a]', 'size: 1..', 'maxQueue: unlimited')],
  ])('takes %s', (_, text) => {
    expect(places(text)).toEqual([])
    expect(() => loadText(text)).not.toThrow()
  })

  it.each([
    ['services: []', '/services'],
    ['service: {}', ''],
    ['services: { ftp://a: {} }', '/services'],
    [serviceFile('command: node a.js'), '/services/http:~1~1calc/command'],
    [serviceFile('command: [a]', 'concurrency: 0'), '/services/http:~1~1calc/concurrency'],
    [serviceFile('command: [a]', 'concurency: 1'), '/services/http:~1~1calc'],
    [serviceFile('command: [a]', 'timeout: 30 s'), '/services/http:~1~1calc/timeout'],
    [serviceFile('command: [a]', 'size: { balancer: x }'), '/services/http:~1~1calc/size'],
    [
      serviceFile('command: [a]', 'size: { balancer: simple, active: 1 }'),
      '/services/http:~1~1calc/size',
    ],
    [serviceFile('command: [a]', 'health: { interval: 1s }'), '/services/http:~1~1calc/health'],
    [serviceFile('command: [a]', 'resend: sometimes'), '/services/http:~1~1calc/resend'],
    [serviceFile('command: [a]', 'gateway: { cors: {} }'), '/services/http:~1~1calc/gateway/cors'],
    ['services: {}\ngateway: { limits: { bodySize: 1XB } }', '/gateway/limits/bodySize'],
    ['services: {}\nadmin: true', '/admin'],
    ['services: {}\nlog: { level: loud }', '/log/level'],
  ])('refuses what is refused: %s', (text, place) => {
    expect(places(text)).toContain(place)
    expect(loadInvalid(text).problems.length).toBeGreaterThan(0)
  })
})
