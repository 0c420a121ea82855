/** docs/tasks.md says what the code says. */
import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { CLUSTER_RULES, LISTEN_RULES, SUBMIT_RULES } from '../../src/tasks/server/options.ts'

const doc = readFileSync(new URL('../../docs/tasks.md', import.meta.url), 'utf8')

/** Rows of each table that begins with this cell, without back-ticks. */
function tables(first: string): string[][][] {
  return doc
    .split(`\n| ${first} `)
    .slice(1)
    .map((text) => text.split('\n').slice(2))
    .map((lines) =>
      lines.slice(
        0,
        lines.findIndex((line) => !line.startsWith('|')),
      ),
    )
    .map((lines) =>
      lines.map((line) =>
        line
          .slice(1, -1)
          .split(/(?<!\\)\|/)
          .map((cell) => cell.trim().replaceAll('`', '')),
      ),
    )
}

it('has every option of the library, with defaults and ranges', () => {
  const shown = tables('option').map((rows) =>
    rows.map(([name, initial, range]) => [name, initial, range]),
  )
  for (const [index, rules] of [CLUSTER_RULES, LISTEN_RULES, SUBMIT_RULES].entries()) {
    const expected = Object.entries(rules).map(([name, { initial, range }]) => {
      if (initial === undefined) return [name, '', range]
      if (typeof initial === 'string') return [name, `'${initial}'`, range]
      return [name, typeof initial === 'object' ? JSON.stringify(initial) : String(initial), range]
    })
    expect(shown[index]).toEqual(expected)
  }
})
