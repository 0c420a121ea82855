/** docs/config.md says what the rules say, and its examples are valid. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { describeRange } from '../../src/config/read-fields.ts'
import {
  FEED_FILE_RULES,
  FEED_IDENTITY_RULES,
  GATEWAY_FILE_RULES,
  LIMIT_RULES,
  LOG_RULES,
  SESSION_FILE_RULES,
} from '../../src/config/rules.ts'
import { BALANCER_NAMES, balancerRules } from '../../src/config/size.ts'
import { starterConfig } from '../../src/config/starter.ts'
import type { Rule, Rules } from '../../src/core/options.ts'
import { ADMIN_RULES } from '../../src/gateway/admin/options.ts'
import { TLS_RULES } from '../../src/gateway/options.ts'
import { AUTH_RULES, CORS_RULES, ROUTE_OPTION_RULES } from '../../src/gateway/route-options.ts'
import { loadText } from './config-fixture.ts'

const docs = readFileSync(new URL('../../docs/config.md', import.meta.url), 'utf8')

/** Cells of the first table under a heading. */
function table(heading: string): string[][] {
  const from = docs.search(new RegExp(`^#+ ${heading}$`, 'm'))
  expect(from, `there is no heading '${heading}'`).toBeGreaterThan(0)
  const rows = docs.slice(from).split('\n')
  const lines = rows.slice(rows.findIndex((row) => row.startsWith('| ---')) + 1)
  return lines
    .slice(
      0,
      lines.findIndex((row) => !row.startsWith('|')),
    )
    .map((row) =>
      row
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim()),
    )
}

function defaultOf({ initial }: Rule<unknown>): string {
  if (initial === Number.POSITIVE_INFINITY) return 'unlimited'
  if (Array.isArray(initial) && initial[0]) return `${initial[0].host}:${initial[0].port}`
  if (Array.isArray(initial)) return '[]'
  return typeof initial === 'object' || initial === undefined ? '' : String(initial)
}

describe('docs/config.md', () => {
  it.each<[string, Rules]>([
    ['`gateway`', GATEWAY_FILE_RULES],
    ['`gateway.limits`', LIMIT_RULES],
    ['`gateway.tls`', TLS_RULES],
    ['`gateway` of a service', ROUTE_OPTION_RULES],
    ['`auth`', AUTH_RULES],
    ['`cors`', CORS_RULES],
    ['`session`', SESSION_FILE_RULES],
    ['`admin`', ADMIN_RULES],
    ['`feed`', FEED_FILE_RULES],
    ['`feed.identities`', FEED_IDENTITY_RULES],
    ['`log`', LOG_RULES],
    ...BALANCER_NAMES.map((name): [string, Rules] => [`\`${name}\``, balancerRules(name)]),
  ])('has every key of %s, with default and range', (heading, rules) => {
    const written = Object.entries(rules).filter(([, rule]) => rule.form)
    const expected = written.map(([name, rule]) => [name, defaultOf(rule), describeRange(rule)])
    const shown = table(heading)
    const rows = shown.map(([name = '', initial = '', range]) => [
      name.replaceAll('`', ''),
      initial.replaceAll('`', ''),
      range,
    ])
    expect(rows).toEqual(expected)
    for (const [name, , , meaning = ''] of shown) expect(meaning.length, name).toBeGreaterThan(4)
  })

  it('has examples that are valid', () => {
    const examples = [...docs.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, text = '']) => text)
    expect(examples).toHaveLength(2)
    for (const text of examples) {
      expect(() =>
        loadText(text.includes('services:') ? text : `services: {}\n${text}`),
      ).not.toThrow()
    }
  })
})

describe('the file of init', () => {
  /** Each comment that is a key, made one; sections, too. */
  const uncommented = starterConfig()
    .split('\n')
    .map((line) => line.replace(/^( *)# (?=( *)[a-zA-Z-]+:( |$))(?!yaml-lang|manyhost)/, '$1'))
    .join('\n')

  it('stays valid with all that is commented out', () => {
    const env = { API_KEY: 'a', MANYHOST_TOKEN: 'b' }
    const text = uncommented.replace('"${file:calc.token}"', 'a').replace(/^ *tls: .*$/m, '')
    const config = loadText(text, env)
    expect(config.services[0]?.options).toMatchObject({ ready: '/health', timeout: 30_000 })
    expect(config.services[0]?.gateway).toMatchObject({ path: '/calc', waitingPage: true })
    expect(config.providers['ready-made']?.type).toBe('static')
    expect(config.session.budget).toEqual({ instances: 16 })
    expect(config.admin).toMatchObject({ token: 'b' })
  })
})
