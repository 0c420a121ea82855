import { describe, expect, it } from 'vitest'
import { diffConfig } from '../../src/config/diff.ts'
import { toSizeSpec } from '../../src/config/size.ts'
import { toSize } from '../../src/sizing/size.ts'
import { FakeCluster } from '../sizing/fake-cluster.ts'
import { loadText, serviceFile, VALID_FILE } from './config-fixture.ts'

function urls(before: string, after: string): Record<string, unknown> {
  const diff = diffConfig(loadText(before), loadText(after))
  const lists = Object.entries(diff).map(([name, list]) => [
    name,
    list.map((one: string | { url: string }) => (typeof one === 'string' ? one : one.url)),
  ])
  return Object.fromEntries(lists.filter(([, list]) => (list as unknown[]).length > 0))
}

const calc = (...lines: string[]) => serviceFile('command: [a]', ...lines)
const CALC = ['http://calc']

describe('the difference', () => {
  it('of a file to itself is none, however it is written', () => {
    expect(urls(VALID_FILE, VALID_FILE)).toEqual({})
    expect(urls(calc('timeout: 60s'), calc('timeout: 1m', 'size: 1'))).toEqual({})
    expect(
      urls('services: { http://a/: { command: [a] } }', 'services: { http://a: { command: [a] } }'),
    ).toEqual({})
  })

  it.each([
    ['size: 1', 'size: 2', { resized: CALC }],
    ['size: 1', 'size: 1..2', { resized: CALC }],
    ['initSize: 1', 'initSize: 3', { resized: CALC }],
    ['size: { max: 3 }', 'size: { max: 3, perInstance: 2 }', { resized: CALC }],
    ['concurrency: 1', 'concurrency: 2', { changed: CALC }],
    ['size: 1', '{ size: 2, timeout: 1s }', { changed: CALC }],
    ['gateway: { path: /a }', 'gateway: { path: /b }', { rerouted: CALC }],
    ['provider: process', 'provider: remote', { changed: CALC }],
  ])('from %s to %s', (before, after, expected) => {
    const line = (text: string) => text.replace(/^\{ (.*) \}$/, '$1').replace('2, t', '2\n    t')
    const providers = 'providers: { remote: { type: remote, key: a } }'
    expect(urls(calc(line(before)) + providers, calc(line(after)) + providers)).toEqual(expected)
  })

  it('is services that come and go, and what the next start is for', () => {
    const other = calc().replace('calc', 'other')
    expect(urls(calc(), other)).toEqual({ added: ['http://other'], removed: CALC })
    const later = (text: string) => urls(calc(), calc() + text).needsRestart
    expect(later('gateway: { http2: false }\nlog: { level: warn }')).toBeUndefined()
    expect(later('log: { format: json }\nsession: { budget: { instances: 3 } }')).toEqual([
      'session.budget',
      'log.format',
    ])
    expect(later('admin: { listen: 9, token: a }')).toEqual(['admin.listen', 'admin.token'])
    expect(later('admin: false')).toEqual(['admin'])
    expect(later('feed: {}')).toEqual(['feed'])
    const feeds = (before: string, after: string) =>
      urls(`${calc()}feed: { ${before} }`, `${calc()}feed: { ${after} }`).needsRestart
    expect(feeds('history: 1', 'history: 2, patterns: true, identitiesFile: a')).toBeUndefined()
    expect(feeds('name: a', "name: b, listen: ':1', http: false")).toEqual([
      'feed.listen',
      'feed.name',
      'feed.http',
    ])
  })

  it('is a provider that is another one now, for all that use it', () => {
    const file = (zone: string) =>
      `${calc('provider: far')}  http://near: { command: [a] }\nproviders: { far: { type: remote, key: k, zone: ${zone} } }`
    expect(urls(file('a'), file('b'))).toEqual({ changed: CALC })
    const session = '\nsession: { provider: far }'
    expect(urls(file('a') + session, file('b') + session)).toEqual({
      changed: ['http://calc', 'http://near'],
    })
  })
})

describe('a size', () => {
  const read = (text: string, queued: number) => {
    const size = loadText(calc(`size: ${text}`)).services[0]?.size
    const cluster = new FakeCluster()
    cluster.queued = queued
    return toSize(toSizeSpec(size ?? { fixed: -1 }), cluster).read()
  }

  it('is what the session reads', () => {
    expect(read('3', 99)).toBe(3)
    expect(read('1..8', 0)).toBe(1)
    expect(read('1..8', 99)).toBe(8)
    expect(read('{ balancer: simple, max: 2 }', 0)).toBe(2)
    expect(read('{ balancer: idle-to-zero, active: 4, max: 3 }', 1)).toBe(3)
    expect(read('{ balancer: target-in-flight, target: 2, max: 50 }', 20)).toBe(10)
  })
})
