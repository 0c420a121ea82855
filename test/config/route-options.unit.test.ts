/** The options of a service at the gateway have one set of rules: code and file take and refuse the same values. */
import { describe, expect, it } from 'vitest'
import { toGatewayOptions } from '../../src/cli/serve/gateway-options.ts'
import { ConfigError } from '../../src/config/problem.ts'
import { ManyhostError } from '../../src/core/errors.ts'
import { parseGateway } from '../../src/gateway/options.ts'
import type { RouteOptions, RouteSettings } from '../../src/gateway/route-options.ts'
import { loadText, serviceFile } from './config-fixture.ts'

const URL_OF_SERVICE = 'http://calc'

function parseInCode(options: object): RouteSettings | undefined {
  const services = { [URL_OF_SERVICE]: options as RouteOptions }
  return parseGateway({ services }).routeOptions.get(URL_OF_SERVICE)
}

/** JSON is YAML. */
function parseInFile(options: object): RouteSettings | undefined {
  const file = loadText(serviceFile('command: [a]', `gateway: ${JSON.stringify(options)}`))
  return parseGateway(toGatewayOptions(file)[0] ?? {}).routeOptions.get(URL_OF_SERVICE)
}

const cors = (options: object) => ({ cors: { origins: ['https://a.example'], ...options } })
const origin = (value: string) => ({ cors: { origins: [value] } })
const bearer = (token: string) => ({ auth: { bearer: [token] } })
const basic = (user: string, password: string) => ({ auth: { basic: { [user]: password } } })

describe('what is taken in code and in a file', () => {
  it.each<object>([
    {},
    { hosts: [] },
    { hosts: ['a_1'] },
    { hosts: ['calc:8080', '[::1]:81'] },
    { hosts: ['calc.example', 'CALC.example', '127.0.0.1', '[::1]'] },
    { path: '/' },
    { path: '/api/v1' },
    { path: false },
    { strip: false, waitingPage: true, serverTiming: true, priorityHeader: true },
    bearer('tok-n._~+/=='),
    basic('ann', 'a password with blanks: ü'),
    { auth: { bearer: ['a'], basic: { ann: 'b' } } },
    origin('*'),
    origin('null'),
    origin('http://a.example:8080'),
    origin('http://[::1]:8080'),
    origin('chrome-extension://abcdef'),
    cors({ methods: ['GET', 'PURGE'], headers: ['x-a'], exposedHeaders: ['x-b'] }),
    cors({ credentials: true }),
    cors({ maxAge: 0 }),
    cors({ maxAge: 60_000 }),
  ])('%j', (options) => {
    const parsed = parseInCode(options)
    expect(parsed).toMatchObject(options)
    expect(parseInFile(options)).toEqual(parsed)
  })

  it('has the same defaults', () => {
    const expected = {
      strip: true,
      waitingPage: false,
      serverTiming: false,
      priorityHeader: false,
      cors: { origins: ['https://a.example'], credentials: false, maxAge: 600_000 },
    }
    expect(parseInCode(cors({}))).toEqual(expected)
    expect(parseInFile(cors({}))).toEqual(expected)
  })
})

describe('what is refused in code and in a file', () => {
  it.each<object>([
    { host: 'a' },
    { hosts: 'a' },
    { hosts: ['calc:'] },
    { hosts: ['calc:a'] },
    { hosts: ['::1'] },
    { hosts: ['-a'] },
    { hosts: ['a.'] },
    { hosts: ['a/b'] },
    { hosts: ['[1.2.3.4]'] },
    { hosts: [''] },
    { path: true },
    { path: 'calc' },
    { path: '/calc?a' },
    { path: '/a b' },
    { strip: 'no' },
    { auth: {} },
    { auth: { bearer: [] } },
    { auth: { basic: {} } },
    { auth: { token: 'a' } },
    bearer(''),
    bearer('tok!n'),
    bearer('a b'),
    basic('a:b', 'c'),
    basic('a', ''),
    basic('a', 'b\n'),
    { cors: {} },
    { cors: { origins: [] } },
    origin('a.example'),
    origin('https://A.example'),
    origin('https://a.example/'),
    origin('https://a.example:443'),
    origin('https://*.a.example'),
    origin('https://ä.example'),
    { cors: { origins: ['*'], credentials: true } },
    cors({ expose: ['x-b'] }),
    cors({ methods: ['GET,POST'] }),
    cors({ headers: ['x a'] }),
    cors({ exposedHeaders: 'x-b' }),
    cors({ maxAge: -1 }),
  ])('%j', (options) => {
    expect(() => parseInCode(options)).toThrow(ManyhostError)
    expect(() => parseInFile(options)).toThrow(ConfigError)
  })

  it('is named in full, and a secret is in no message', () => {
    expect(() => parseInCode({ cors: { origins: ['x'] } })).toThrow(
      /^gateway: services\.http:\/\/calc\.cors: origins must be a list of origins/,
    )
    expect(() => parseInFile({ cors: { origins: ['x'] } })).toThrow(
      /services\.http:\/\/calc\.gateway\.cors\.origins\[0\] must be an origin/,
    )
    for (const parse of [parseInCode, parseInFile]) {
      for (const options of [bearer('hunter2!'), basic('a', 'hunter2\n')]) {
        let message = ''
        try {
          parse(options)
        } catch (error) {
          message = String(error)
        }
        expect(message).toMatch(/auth/)
        expect(message).not.toContain('hunter2')
      }
    }
  })
})
