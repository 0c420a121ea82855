import { describe, expect, it } from 'vitest'
import { LIMIT_RULES } from '../../src/config/rules.ts'
import { SERVICE_FILE_RULES } from '../../src/config/services.ts'
import { BALANCER_NAMES, balancerRules } from '../../src/config/size.ts'
import { ManyhostError } from '../../src/core/errors.ts'
import type { Form } from '../../src/core/options.ts'
import { loadInvalid, loadText, serviceFile } from './config-fixture.ts'

/** Of each form, what is never of it. */
function wrongFor(form: Form): string {
  return form.is === 'list' ? 'four' : '[[four]]'
}

describe('a mistake', () => {
  it('has its place, its name, what was got, what is allowed, and a pointer', () => {
    const error = loadInvalid(serviceFile('command: [a]', 'size: 1', 'concurrency: four'))
    expect(error).toBeInstanceOf(ManyhostError)
    expect(error.code).toBe('MANYHOST_INVALID_OPTION')
    expect(error.message).toBe(
      [
        '/srv/fleet.yaml:5:18: services.http://calc.concurrency must be a whole number from 1 up, got "four"',
        '  5 |     concurrency: four',
        '    |                  ^^^^',
      ].join('\n'),
    )
    expect(error.problems).toEqual([
      {
        file: '/srv/fleet.yaml',
        line: 5,
        column: 18,
        path: 'services.http://calc.concurrency',
        message: 'services.http://calc.concurrency must be a whole number from 1 up, got "four"',
        snippet: '  5 |     concurrency: four\n    |                  ^^^^',
      },
    ])
  })

  it('is found with all the others at once', () => {
    const error = loadInvalid(`services:
  http://calc:
    command: node calc.js
    concurency: 4
    size: 8..1
    drainTimeout: four
    health: { interval: 0 }
    env: { A: { b: 1 } }
    minSize: 5
    maxSize: 3
    fairness: x
    gateway: { cors: { origins: [x] }, auth: {} }
  http://calc/:
    provider: proces
    size: { balancer: queue-lenght, min: 3 }
  ftp://x: { command: [a], size: 9, maxSize: 8 }
  http://y: { command: [a], size: { balancer: simple, max: 0, interval: -3, perInstance: 1 } }
  http://z: { command: [a], size: { balancer: target-in-flight, stableWindow: 10s, panicWindow: 11s } }
  http://h1: { command: [a], gateway: { hosts: [same], path: /s } }
  http://h2: { command: [a], gateway: { hosts: [Same], path: /s/ } }
  http://n:
    size: 1.5
    initSize: 2
? [a, b]
: 1
gateway: { listen: [8080, foo], tls: { cert: nope.pem }, trustedProxies: [10.0.0.0/33] }
admin: { listen: "0.0.0.0:1" }
providers: { p: { type: statik }, q: 3, r: { type: static, urls: 7 } }
session: { tickInterval: 0, budget: { instances: none } }
log: { level: 5, levle: info }
log: { level: info }
!odd x-mine: 3
`)
    expect(error.message).toMatchSnapshot()
  })

  it('of the syntax stops what follows it, but not what stands before', () => {
    const error = loadInvalid(serviceFile('sizes: 3', 'command: [a, ${b}]', 'other: 1'))
    expect(error.problems.map(({ line, message }) => [line, message])).toEqual([
      [3, expect.stringContaining("did you mean 'size'?")],
      [4, expect.stringContaining('YAML')],
    ])
    expect(error.message).toContain('needs quotes')
    expect(loadInvalid('services: {}\n--- \nservices: {}').message).toContain('one document')
    expect(loadInvalid('services: {}\n\t- x: [').message).toMatch(/YAML/)
  })

  it('of a long line, or with what steers a terminal, is shown all the same', () => {
    const { message } = loadInvalid(
      serviceFile(`command: [${'a, '.repeat(100)}{}, "\u001b[2J"]`, 'x\u001b[1m: 3'),
    )
    expect(message).not.toContain('\u001b')
    expect(Math.max(...message.split('\n').map((row) => row.length))).toBeLessThan(600)
    expect(loadInvalid(serviceFile('\u001b: 3')).message).not.toContain('\u001b')
  })

  it('is one of many at most', () => {
    const keys = Array.from({ length: 5_000 }, (_, i) => `k${i}: 1`).join('\n')
    const error = loadInvalid(keys)
    expect(error.problems.length).toBe(1_000)
    expect(error.message).toContain('... and 950 more')
  })
})

describe('each key', () => {
  const rules = Object.entries(SERVICE_FILE_RULES).filter(([, rule]) => 'form' in rule)

  it.each(rules)('of a service: %s', (name, rule) => {
    const wrong = wrongFor((rule as { form: Form }).form)
    const lines = name === 'command' ? [] : ['command: [a]']
    const { problems } = loadInvalid(serviceFile(...lines, `${name}: ${wrong}`))
    // What may be a list is wrong in the item.
    const item = name === 'provider' ? '[0]' : ''
    const at = { line: lines.length + 3, column: name.length + 7 + (item ? 1 : 0) }
    expect(problems[0]).toMatchObject({ path: `services.http://calc.${name}${item}`, ...at })
    expect(problems[0]?.message).toMatch(/must be .*, got/)
  })

  it.each(Object.keys(LIMIT_RULES))('of the limits: %s', (name) => {
    const { problems } = loadInvalid(`services: {}\ngateway: { limits: { ${name}: x } }`)
    expect(problems).toMatchObject([{ path: `gateway.limits.${name}`, line: 2 }])
  })

  it.each(BALANCER_NAMES)('of the balancer %s', (name) => {
    for (const key of Object.keys(balancerRules(name))) {
      const size = `size: { balancer: ${name}, ${key}: -1 }`
      const { problems } = loadInvalid(serviceFile('command: [a]', size))
      expect(problems).toMatchObject([{ path: `services.http://calc.size.${key}`, line: 4 }])
    }
  })
})

describe('addresses', () => {
  const listen = (value: string) =>
    loadText(`services: {}\ngateway: { listen: ${value} }`).gateway.listen

  it('are read', () => {
    expect(listen('8080')).toEqual([{ host: '127.0.0.1', port: 8080 }])
    expect(listen('":80"')).toEqual([{ host: '127.0.0.1', port: 80 }])
    expect(listen('"0.0.0.0:80"')).toEqual([{ host: '0.0.0.0', port: 80 }])
    expect(listen('["*:0", "host.example:1"]')).toEqual([
      { host: '::', port: 0 },
      { host: 'host.example', port: 1 },
    ])
    expect(listen('"unix:/a b"')).toEqual([{ path: '/a b' }])
    expect(listen('"${SIZE}"')).toEqual([{ host: '127.0.0.1', port: 4 }])
  })

  it.each([
    '70000',
    '"1.2.3.4"',
    '"[1.2.3.4]:1"',
    '"unix:rel"',
    '[]',
    '"a b:1"',
    '""',
    '1.5',
    'true',
  ])('are refused: %s', (value) => {
    expect(loadInvalid(`services: {}\ngateway: { listen: ${value} }`).problems).toHaveLength(1)
  })

  it('of the admin need a token when others can reach them', () => {
    const admin = (text: string) => `services: {}\nadmin: { ${text} }`
    expect(loadInvalid(admin('listen: "*:1"')).message).toContain('admin.token is missing')
    for (const local of ['":1"', '"127.0.0.5:1"', '"[::1]:1"', 'localhost:1', '"unix:/x"']) {
      expect(loadText(admin(`listen: ${local}`)).admin).toBeTruthy()
    }
    expect(loadText(admin('listen: "*:1", token: x')).admin).toMatchObject({ token: 'x' })
  })
})
