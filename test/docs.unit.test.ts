/** README's tables say what the code says: every name, default, range, status and meaning. */
import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { CLIENT_RULES } from '../src/client/options.ts'
import { ERRORS } from '../src/core/errors.ts'
import type { Rule } from '../src/core/options.ts'
import { GATEWAY_RULES } from '../src/gateway/options.ts'
import { ROUTE_OPTION_RULES } from '../src/gateway/route-options.ts'
import { METRICS } from '../src/session/metrics.ts'
import { SESSION_RULES } from '../src/session/options.ts'
import { SERVICE_RULES } from '../src/session/service.ts'

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')

/** Rows of the table under the heading that begins with these words, cells without their back-ticks. */
function table(heading: string, behind = ''): string[][] {
  const from = readme.indexOf(`# ${heading}`)
  expect(from, `README has no heading '${heading}'`).toBeGreaterThan(0)
  const rows = readme.slice(readme.indexOf(behind, from)).split('\n')
  const begin = rows.findIndex((row) => row.startsWith('| ---'))
  const lines = rows.slice(begin + 1)
  const end = lines.findIndex((row) => !row.startsWith('|'))
  return lines.slice(0, end).map((row) =>
    row
      .slice(1, -1)
      .split(/(?<!\\)\|/)
      .map((cell) => cell.trim().replaceAll('\\|', '|')),
  )
}

const code = (cell: string | undefined): string => (cell ?? '').replaceAll('`', '')

function defaultOf({ initial }: Rule<unknown>): string {
  if (initial === undefined) return ''
  if (typeof initial === 'string') return `'${initial}'`
  return typeof initial === 'object' ? JSON.stringify(initial) : String(initial)
}

function optionRows(rules: Readonly<Record<string, Rule<unknown>>>): string[][] {
  return Object.entries(rules).map(([name, rule]) => [name, defaultOf(rule), rule.range])
}

function shown(heading: string, behind?: string): string[][] {
  return table(heading, behind).map(([name, initial, range]) => [
    code(name),
    code(initial),
    range as string,
  ])
}

describe('README', () => {
  it('has the options of a service, with defaults and ranges', () => {
    // README has them in an order of its own.
    expect(shown('`session.startup(options').toSorted()).toEqual(
      optionRows(SERVICE_RULES).toSorted(),
    )
  })

  it('has the options of a session', () => {
    const rows = shown('`new Session(options)`').filter(([name]) => name !== 'registry')
    expect(rows).toEqual(optionRows(SESSION_RULES))
  })

  it('has the options of a client', () => {
    expect(shown('`session.client(options)`')).toEqual(optionRows(CLIENT_RULES))
  })

  it('has the options of a gateway, and those of a service at it', () => {
    expect(shown('`createGateway(session, options)`')).toEqual(optionRows(GATEWAY_RULES))
    expect(shown('`createGateway(session, options)`', '`services` has')).toEqual(
      optionRows(ROUTE_OPTION_RULES),
    )
  })

  it('says something of each option', () => {
    for (const heading of [
      '`session.startup(options',
      '`new Session(',
      '`session.client(',
      '`createGateway(',
    ]) {
      for (const [name, , , meaning] of table(heading)) {
        expect(meaning?.length, name).toBeGreaterThan(5)
      }
    }
  })

  it('has every error with its status', () => {
    const rows = table('Errors').map(([name, ...rest]) => [code(name), ...rest])
    const expected = Object.entries(ERRORS).map(([name, { status, retryable, meaning }]) => [
      name,
      String(status),
      retryable ? 'yes' : 'no',
      meaning,
    ])
    expect(rows).toEqual(expected)
  })

  it('has every metric with its labels', () => {
    const rows = table('Metrics').map(([name, kind, labels, meaning]) => [
      code(name),
      kind,
      code(labels).replaceAll(' ', ','),
      meaning,
    ])
    const expected = Object.entries(METRICS).map(([name, [kind, labels, help]]) => [
      name,
      kind,
      labels,
      help,
    ])
    expect(rows).toEqual(expected)
  })

  it('has every event with the names of its data', () => {
    const source = readFileSync(new URL('../src/core/events.ts', import.meta.url), 'utf8')
    const names = [
      ...(/interface SessionEvents \{([^}]*)\}/.exec(source)?.[1] ?? '').matchAll(/(\w+): (\w+)/g),
    ]
    const rows = table('Events').map(([name, , data]) => [code(name), code(data)])
    expect(rows.map(([name]) => name)).toEqual(names.map(([, name]) => name))
    for (const [, name, type] of names) {
      if (type === 'ManyhostError') continue
      const body = new RegExp(`interface ${type} \\{([^}]*)\\}`).exec(source)?.[1] ?? ''
      const fields = [...body.matchAll(/readonly (\w+)\??:/g)].map(([, field]) => field)
      expect(rows.find(([row]) => row === name)?.[1]?.split(' ')).toEqual(fields)
    }
  })

  it('links to files that are there', () => {
    for (const [, path] of readme.matchAll(/\]\((?!http)([^)]+)\)/g)) {
      expect(existsSync(new URL(`../${path}`, import.meta.url)), path).toBe(true)
    }
  })
})
