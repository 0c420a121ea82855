/** Bad input at the edge: every message names the option, its range and what was got. */
import { describe, expect, test } from 'vitest'
import { inProcess } from '../../providers/testing/index.ts'
import { CLIENT_RULES } from '../../src/client/options.ts'
import { parseOptions, type Rules } from '../../src/core/options.ts'
import type { Provider } from '../../src/core/provider.ts'
import { parseVirtualUrl, ServiceRegistry } from '../../src/core/registry.ts'
import { ROUTING_RULES } from '../../src/dispatch/routing.ts'
import { SESSION_RULES } from '../../src/session/options.ts'
import { parseService, SERVICE_RULES, type ServiceOptions } from '../../src/session/service.ts'
import { catchThrown } from '../help.ts'

const provider = inProcess((_req, res) => void res.end())
const defaults = { provider, tickInterval: 1_000, random: Math.random }

function parse(options: object, startup?: unknown) {
  const whole = { url: 'http://calc', ...options } as ServiceOptions
  return parseService(whole, startup as undefined, defaults)
}

describe('a bad option of a service', () => {
  const whole = 'a whole number from'
  test.each<[string, unknown[], string]>([
    ['url', [7, {}, null], 'an absolute URL such as http://calc'],
    ['command', ['node', [], [1], [['node']]], 'a non-empty array of strings'],
    ['image', ['', 5], 'a name of an image'],
    ['provider', [{}, 'docker', null], 'a provider'],
    ['initSize', [-1, 1.5, '2', Number.NaN, Number.POSITIVE_INFINITY], `${whole} 0 up`],
    ['minSize', [-1, Number.POSITIVE_INFINITY, 2 ** 60], `${whole} 0 up`],
    ['maxSize', [-1, 0.5, '8'], `${whole} 0 up, or Infinity`],
    ['concurrency', [0, -1, 1.5], `${whole} 1 up`],
    ['maxStarting', [0], `${whole} 1 up`],
    [
      'ready',
      ['health', '', 1, '/a b', '/\n', '/\u20ac'],
      "a path that begins with '/', as in a request",
    ],
    ['health', [true, '/health', null], '{ path, interval, threshold }'],
    ['startTimeout', [0, -1, Number.NaN, '1s', Number.POSITIVE_INFINITY], 'milliseconds above 0'],
    // Of these 0 is the shortest: taken for it, Infinity would cut at once what was to have all the time there is.
    ['drainTimeout', [-1, Number.NaN, Number.POSITIVE_INFINITY], 'milliseconds from 0 up'],
    ['stopGrace', [-1, Number.POSITIVE_INFINITY], 'milliseconds from 0 up'],
    ['slowStart', [-1, Number.POSITIVE_INFINITY], 'milliseconds from 0 up'],
    ['queueTimeout', [-1, '5'], 'milliseconds from 0 up'],
    ['maxQueue', [-1, 0.1], `${whole} 0 up, or Infinity`],
    ['timeout', [-1], 'milliseconds from 0 up'],
    ['attemptTimeout', [-1], 'milliseconds from 0 up'],
    ['resend', ['sometimes', true], "'always', 'idempotent', 'never'"],
    ['maxAttempts', [0, 1.1], `${whole} 1 up`],
    ['ejectAfter', [0], `${whole} 1 up`],
    ['replayLimit', [-1], `${whole} 0 up`],
    ['holdLimit', [-1], `${whole} 0 up`],
    ['headerSize', [0, -1, 1.5, '16KiB', Number.POSITIVE_INFINITY], `${whole} 1 up`],
    ['hedge', [5, 'p95'], "{ after: milliseconds or 'p95' }"],
    ['balance', ['random', 1], "'least-in-flight', 'round-robin', 'peak-ewma' or a function"],
    ['fairness', ['key'], 'a function from a request to a key'],
    ['onStop', ['retry'], "'restart', 'raise', 'ignore'"],
    ['listen', ['udp'], "'tcp', 'unix'"],
    ['env', [[], 'A=1', { A: {} }], 'an object of strings'],
    ['cwd', ['', 1], 'a path'],
    ['labels', [['a']], 'an object of strings'],
    ['resources', [2], '{ cpus, memory }'],
  ])('%s', (name, values, range) => {
    for (const value of values) {
      const error = catchThrown(() => parse({ [name]: value }))
      expect(error).toMatchObject({ code: 'MANYHOST_INVALID_OPTION', status: 400 })
      expect(error.message).toContain(`startup: ${name} must be ${range}`)
      expect(error.message).toMatch(/, got ./)
      if (typeof value === 'number' || typeof value === 'string') {
        expect(
          error.message.endsWith(
            `got ${JSON.stringify(value) === 'null' ? value : JSON.stringify(value)}`,
          ),
        ).toBe(true)
      }
    }
  })

  test('every option is in the table above', () => {
    // One that is added has to say what it refuses.
    expect(Object.keys(SERVICE_RULES)).toHaveLength(34)
  })

  test.each<[object, RegExp]>([
    [{ health: { path: '/h', interval: 0 } }, /interval must be milliseconds above 0, got 0/],
    [{ health: { path: '/h', treshold: 1 } }, /unknown option 'treshold'; known: path, interval/],
    [{ health: { interval: 5 } }, /health.path is missing/],
    [{ health: { path: '/a b' } }, /path must be a path that begins with '\/', as in a request/],
    [{ hedge: { after: 0 } }, /after must be milliseconds above 0, or 'p95', got 0/],
    [{ hedge: {} }, /hedge.after is missing/],
    [{ resources: { cpus: -1 } }, /cpus must be a number above 0, got -1/],
    [{ resources: { memory: '1G' } }, /memory must be bytes above 0, got "1G"/],
    [{ minSize: 3, maxSize: 2 }, /minSize 3 is above maxSize 2/],
    [{ initSize: 3, maxSize: 2 }, /initSize 3 is above maxSize 2/],
    [{ url: undefined }, /url is missing/],
    [{ comand: ['node'] }, /unknown option 'comand'; known: url, command/],
  ])('%j', (options, message) => {
    const error = catchThrown(() => parse(options))
    expect([error.code, error.message]).toEqual([
      'MANYHOST_INVALID_OPTION',
      expect.stringMatching(message),
    ])
  })

  test('what a provider cannot do is refused where it is asked for', () => {
    for (const [options, startup, what] of [
      [{ command: ['node'] }, undefined, 'command'],
      [{}, () => undefined, 'function'],
      [{ image: 'x' }, undefined, 'image'],
      [{ listen: 'unix' }, undefined, 'unix-socket'],
      [{ resources: { cpus: 1 } }, undefined, 'resources'],
    ] as const) {
      const error = catchThrown(() => parse(options, startup))
      expect(error.code).toBe('MANYHOST_UNSUPPORTED')
      expect(error.message).toContain(`provider in-process does not support '${what}'`)
    }
  })

  test('a provider that starts things needs something to start', () => {
    const capable = { ...provider, capabilities: new Set(['command', 'function']) } as Provider
    expect(catchThrown(() => parse({ provider: capable })).message).toContain(
      'nothing would be started',
    )
    const both = { provider: capable, command: ['node'] }
    expect(catchThrown(() => parse(both, () => undefined)).message).toContain('exclude each other')
    expect(catchThrown(() => parse({ provider: capable }, 'start.sh')).message).toContain(
      'a function (ctx, listenOn), got "start.sh"',
    )
  })

  test('sizes are held below what the provider has', () => {
    const few = { ...provider, limit: 3 } as Provider
    expect(parse({ provider: few }).settings.maxSize).toBe(3)
    expect(parse({ provider: few }).initSize).toBe(3)
    expect(catchThrown(() => parse({ provider: few, minSize: 4 })).message).toContain(
      'minSize 4 is above the 3 that in-process has',
    )
  })
})

describe('a bad option of a session, a client or a dispatcher', () => {
  test.each<[Rules, object, RegExp]>([
    [SESSION_RULES, { provider: 5 }, /provider must be a provider, got 5/],
    [SESSION_RULES, { tickInterval: 0 }, /tickInterval must be milliseconds above 0, got 0/],
    [
      SESSION_RULES,
      { budget: 5 },
      /budget must be \{ instances: a whole number from 1 up \}, got 5/,
    ],
    [SESSION_RULES, { random: 4 }, /random must be a function/],
    [SESSION_RULES, { budgets: 1 }, /unknown option 'budgets'/],
    [ROUTING_RULES, { priority: Number.NaN }, /priority must be a finite number, got NaN/],
    [ROUTING_RULES, { affinity: 5 }, /affinity must be a string, got 5/],
    [ROUTING_RULES, { resend: 'no' }, /resend must be 'always', 'idempotent', 'never', got "no"/],
    [ROUTING_RULES, { idempotencyKey: '' }, /idempotencyKey must be a non-empty string, got ""/],
    [ROUTING_RULES, { timeout: -1 }, /timeout must be milliseconds from 0 up .*, got -1/],
    [CLIENT_RULES, { baseUrl: 'calc' }, /baseUrl must be an absolute URL, got "calc"/],
    [CLIENT_RULES, { redirect: 'no' }, /redirect must be 'follow', 'manual', 'error', got "no"/],
    [CLIENT_RULES, { maxRedirects: -1 }, /maxRedirects must be a whole number from 0 up, got -1/],
    [CLIENT_RULES, { headers: 'x' }, /headers must be headers by name, or pairs, got "x"/],
  ])('%#: %j', (rules, options, message) => {
    expect(() => parseOptions('it', options, rules)).toThrow(message)
  })

  test('options that are none', () => {
    for (const options of [5, 'x', null]) {
      expect(() => parseOptions('it', options, SESSION_RULES)).toThrow(/options must be an object, got/)
    }
  })
})

describe('a virtual URL', () => {
  test.each([
    ['HTTP://Calc', 'http://calc'],
    ['http://calc/', 'http://calc'],
    ['http://calc:80', 'http://calc'],
    ['http://calc:81/v2/', 'http://calc:81/v2'],
    ['https://any_name', 'https://any_name'],
  ])('%s is %s', (given, href) => {
    expect(parseVirtualUrl(given).href).toBe(href)
    expect(parseVirtualUrl(new URL(given)).href).toBe(href)
  })

  test.each([
    ['calc', 'an absolute URL'],
    ['', 'an absolute URL'],
    ['ftp://calc', 'scheme http or https'],
    ['http://user:pw@calc', 'without user or password'],
    ['http://calc?a=1', 'without query or fragment'],
    ['http://calc#x', 'without query or fragment'],
  ])('%s is none: %s', (given, message) => {
    const error = catchThrown(() => parseVirtualUrl(given))
    expect(error.code).toBe('MANYHOST_INVALID_URL')
    expect(error.message).toContain(message)
    expect(error.message).toContain(`got ${JSON.stringify(given)}`)
  })

  test('is matched by origin, then by the longest prefix, whatever the order of registration', () => {
    const registry = new ServiceRegistry<string>()
    const hrefs = [
      'http://calc',
      'http://calc/v2',
      'http://calc/v2/deep',
      'http://calc:81',
      'https://calc',
    ]
    for (const href of hrefs) registry.add(parseVirtualUrl(href), () => href)
    const match = (url: string) => {
      const { origin, pathname, search } = new URL(url)
      return registry.match(origin, pathname + search)
    }
    expect(match('http://calc/')).toBe('http://calc')
    expect(match('http://calc/v20')).toBe('http://calc')
    expect(match('http://calc/v2')).toBe('http://calc/v2')
    expect(match('http://calc/v2?x=1')).toBe('http://calc/v2')
    expect(match('http://calc/v2/deep/er')).toBe('http://calc/v2/deep')
    expect(match('http://calc:81/v2')).toBe('http://calc:81')
    expect(match('http://calc:82/v2')).toBe('http://calc/v2')
    expect(match('https://calc:444/')).toBe('https://calc')
    expect(match('http://other/')).toBeUndefined()
    expect(registry.get(parseVirtualUrl('http://calc/v2/'))).toBe('http://calc/v2')
    expect(
      catchThrown(() => registry.add(parseVirtualUrl('http://CALC:80/'), () => '')),
    ).toMatchObject({
      code: 'MANYHOST_DUPLICATE_SERVICE',
    })
    expect([...registry.values()].sort()).toEqual(hrefs.toSorted())
  })
})
