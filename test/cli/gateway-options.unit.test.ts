/** What a file says of the gateway and of the feed arrives there: every key, in their own terms. */
import { describe, expect, it } from 'vitest'
import { toFeedOptions } from '../../src/cli/serve/feed.ts'
import {
  toAdminSettings,
  toConfigKeys,
  toGatewayOptions,
} from '../../src/cli/serve/gateway-options.ts'
import { listUnprotectedServices } from '../../src/cli/serve/unprotected-services.ts'
import { LIMIT_RULES } from '../../src/config/rules.ts'
import { FEED_RULES, parseFeedOptions } from '../../src/feed/broker-options.ts'
import { parseGateway } from '../../src/gateway/options.ts'
import { CORS_RULES, ROUTE_OPTION_RULES } from '../../src/gateway/route-options.ts'
import { loadText, VALID_FILE } from '../config/config-fixture.ts'

const FILE = `
services:
  http://calc:
    command: [a]
    gateway:
      hosts: [calc.example]
      path: /api/v1
      strip: false
      auth: { bearer: [t] }
      cors: { origins: [https://a.example], methods: [PURGE], headers: [x-a], exposedHeaders: [x-b], credentials: true, maxAge: 2m }
      waitingPage: true
      serverTiming: true
      priorityHeader: true
gateway:
  listen: [127.0.0.1:1, 127.0.0.1:2]
  http2: false
  trustedProxies: [10.0.0.0/8]
  forwarded: false
  shutdownDelay: 5s
  drainTimeout: 0
  limits: { headerSize: 1, headerCount: 2, headerTime: 3, bodySize: 4, bodyRate: 5, answerRate: 8, tunnelLinger: 9, connections: 6, keepAlive: 7 }
admin: { listen: 127.0.0.1:3, token: s3cret }
`

describe('a fleet file', () => {
  const config = loadText(FILE)
  const [first, second] = toGatewayOptions(config)

  it('opens a gateway at each of its addresses', () => {
    expect(first?.listen).toEqual({ host: '127.0.0.1', port: 1 })
    expect(second).toEqual({ ...first, listen: { host: '127.0.0.1', port: 2 } })
    expect(() => parseGateway(first ?? {})).not.toThrow()
  })

  it('gives it every limit and flag', () => {
    expect(first).toMatchObject({ http2: false, trustedProxies: ['10.0.0.0/8'], forwarded: false })
    expect(first).toMatchObject({ shutdownDelay: 5_000, drainTimeout: 0 })
    const { limits } = config.gateway
    expect(first).toMatchObject(limits)
    expect(Object.keys(limits)).toEqual(Object.keys(LIMIT_RULES))
    expect(new Set(Object.values(limits)).size).toBe(9)
  })

  it('gives it every key of a service', () => {
    const door = first?.services?.['http://calc']
    expect(door).toEqual({
      hosts: ['calc.example'],
      path: '/api/v1',
      strip: false,
      auth: { bearer: ['t'] },
      cors: {
        origins: ['https://a.example'],
        methods: ['PURGE'],
        headers: ['x-a'],
        exposedHeaders: ['x-b'],
        credentials: true,
        maxAge: 120_000,
      },
      waitingPage: true,
      serverTiming: true,
      priorityHeader: true,
    })
    expect(Object.keys(door ?? {})).toEqual(Object.keys(ROUTE_OPTION_RULES))
    expect(Object.keys(door?.cors ?? {})).toHaveLength(Object.keys(CORS_RULES).length)
  })

  it('has an admin address, or none', () => {
    expect(toAdminSettings(config)).toEqual({
      addresses: [{ host: '127.0.0.1', port: 3 }],
      token: 's3cret',
    })
    expect(toAdminSettings(loadText('services: {}\nadmin: false')).addresses).toEqual([])
  })

  it('warns of services that every machine may use', () => {
    const unprotected = (listen: string) =>
      listUnprotectedServices(
        loadText(`services:
  http://open: { command: [a] }
  http://closed: { command: [a], gateway: { auth: { bearer: [t] } } }
gateway: { listen: ${listen} }`),
      )
    for (const local of ['":8080"', '8080', '"[::1]:1"', '"unix:/run/x.sock"'])
      expect(unprotected(local), local).toEqual([])
    for (const open of ['"*:8080"', '0.0.0.0:8080', '[8080, host.example:1]'])
      expect(unprotected(open), open).toEqual(['http://open'])
  })

  it('gives the feed every key, none of them at its default', () => {
    const options = toFeedOptions(loadText(VALID_FILE)) ?? {}
    const { source, endpoints, registry, ...given } = parseFeedOptions(options)
    // The session's own is to stand where none is given.
    expect(options).not.toHaveProperty('registry')
    expect(given).toEqual({
      name: 'events',
      patterns: true,
      connections: 500,
      authTimeout: 5_000,
      bufferLimit: 4_194_304,
      deadline: 30_000,
      nonceSize: 20,
      history: 100,
      historyBytes: 65_536,
      closeTimeout: 0,
    })
    expect(Object.keys({ ...given, endpoints, identities: source, registry }).sort()).toEqual(
      Object.keys(FEED_RULES).sort(),
    )
    expect(endpoints.map(({ address: where }) => where)).toEqual([
      { host: '127.0.0.1', port: 20_000 },
      { path: '/run/feed.sock' },
    ])
    expect(source.find('ann')).toMatchObject({ secret: 'hunter2-token', subscribe: ['a', 'b'] })
  })

  it('is told of in its own words', () => {
    expect(toConfigKeys(['listen', 'headerSize'])).toEqual([
      'gateway.listen',
      'gateway.limits.headerSize',
    ])
  })
})
