import { readFileSync } from 'node:fs'
import { Ajv2020, type ErrorObject } from 'ajv/dist/2020.js'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { jsonSchema } from '../../src/config/schema.ts'
import { starter } from '../../src/config/starter.ts'
import { GOOD, load, refused, service } from './files.ts'

const validate = new Ajv2020({ allErrors: true, strict: true, allowUnionTypes: true }).compile(
  jsonSchema(),
)

/** Places of what the schema has against a file; an editor reads it just so. */
function places(text: string): string[] {
  validate(parse(text, { merge: true }))
  return ((validate.errors ?? []) as ErrorObject[]).map(({ instancePath }) => instancePath)
}

describe('the schema', () => {
  it('is the one that is shipped', () => {
    const shipped = new URL('../../schema/fleet.schema.json', import.meta.url)
    expect(JSON.parse(readFileSync(shipped, 'utf8')), 'run: npm run schema').toEqual(jsonSchema())
  })

  it.each([
    ['all that can be said', GOOD],
    ['the file of init', starter()],
    ['nothing', 'services: {}'],
    ['keys without a value', 'services:\ngateway:\nadmin: false\nlog:'],
    ['a size of the environment', service('command: [a]', 'size: ${SIZE}', 'timeout: ${SIZE}')],
    ['a range', service('command: [a]', 'size: 1..', 'maxQueue: unlimited')],
  ])('takes %s', (_, text) => {
    expect(places(text)).toEqual([])
    expect(() => load(text)).not.toThrow()
  })

  it.each([
    ['services: []', '/services'],
    ['service: {}', ''],
    ['services: { ftp://a: {} }', '/services'],
    [service('command: node a.js'), '/services/http:~1~1calc/command'],
    [service('command: [a]', 'concurrency: 0'), '/services/http:~1~1calc/concurrency'],
    [service('command: [a]', 'concurency: 1'), '/services/http:~1~1calc'],
    [service('command: [a]', 'timeout: 30 s'), '/services/http:~1~1calc/timeout'],
    [service('command: [a]', 'size: { balancer: x }'), '/services/http:~1~1calc/size'],
    [
      service('command: [a]', 'size: { balancer: simple, active: 1 }'),
      '/services/http:~1~1calc/size',
    ],
    [service('command: [a]', 'health: { interval: 1s }'), '/services/http:~1~1calc/health'],
    [service('command: [a]', 'resend: sometimes'), '/services/http:~1~1calc/resend'],
    [service('command: [a]', 'gateway: { cors: {} }'), '/services/http:~1~1calc/gateway/cors'],
    ['services: {}\ngateway: { limits: { bodySize: 1XB } }', '/gateway/limits/bodySize'],
    ['services: {}\nadmin: true', '/admin'],
    ['services: {}\nlog: { level: loud }', '/log/level'],
  ])('refuses what is refused: %s', (text, place) => {
    expect(places(text)).toContain(place)
    expect(refused(text).problems.length).toBeGreaterThan(0)
  })
})
