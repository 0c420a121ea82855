/** A service of a file on several providers. */
import { expect, test } from 'vitest'
import { ConfiguredProviders, PROVIDER_TYPES } from '../../src/cli/serve/providers.ts'
import { loadConfig } from '../../src/config/config.ts'
import { diffConfig } from '../../src/config/diff.ts'
import { catchThrown } from '../help.ts'

const file = (provider: string, urls = '["http://a:1", "http://a:2"]'): string => `
services:
  http://calc:
    provider: ${provider}
providers:
  desk: { type: static, urls: ${urls} }
  attic: { type: static, urls: ["http://b:1"] }
`
const read = (text: string) => loadConfig({ text }, {}, { providers: PROVIDER_TYPES })

function made(provider: string) {
  const config = read(file(provider))
  const [service] = config.services
  if (!service) throw new Error('there is no service')
  return new ConfiguredProviders().toServiceOptions(service, config).provider
}

test('a list, an order, weights', () => {
  for (const provider of [
    '[desk, attic]',
    '{ order: [desk, attic], spilloverAfter: 30s }',
    '{ weights: { desk: 3, attic: 1 } }',
  ]) {
    expect(made(provider)?.limit, provider).toBe(3)
  }
  expect(made('desk')?.limit).toBe(2)
})

test('when one of them changes, the service does', () => {
  const before = read(file('[desk, attic]'))
  expect(diffConfig(before, read(file('[desk, attic]'))).changed).toEqual([])
  const after = read(file('[desk, attic]', '["http://a:3"]'))
  expect(diffConfig(before, after).changed).toHaveLength(1)
  expect(diffConfig(before, read(file('[attic, desk]'))).changed).toHaveLength(1)
})

test.each([
  ['[desk, atic]', /must be a name of providers \(.*\), got 'atic'; did you mean 'attic'/],
  ['[desk, desk]', /has 'desk' twice/],
  ['{ order: [desk], weights: { attic: 1 } }', /either order or weights/],
  ['{ weights: { desk: 0 } }', /must be a number above 0, got 0/],
  ['[]', /must have either order or weights/],
])('%s is refused', (provider, text) => {
  expect(catchThrown(() => read(file(provider))).message).toMatch(text)
})
