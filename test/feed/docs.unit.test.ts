/** docs/feed.md says what the code says. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import type { Rules } from '../../src/core/options.ts'
import { FEED_RULES } from '../../src/feed/broker-options.ts'
import { CLIENT_RULES } from '../../src/feed/client-options.ts'
import { HANDLER_RULES } from '../../src/feed/http.ts'
import { FEED_METRICS } from '../../src/feed/metrics.ts'
import { PUBLISH_RULES } from '../../src/session/publish-events.ts'

const docs = readFileSync(new URL('../../docs/feed.md', import.meta.url), 'utf8')

/** Cells of the first table under a heading that begins so. */
function table(heading: string, begin: string): string[][] {
  const section = docs.slice(docs.indexOf(`\n## ${heading}`))
  const rows = section.slice(section.indexOf(`| ${begin} `)).split('\n')
  const end = rows.findIndex((row) => !row.startsWith('|'))
  return rows.slice(2, end).map((row) =>
    row
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim().replaceAll('`', '')),
  )
}

test.each<[string, Rules]>([
  ['The client', CLIENT_RULES],
  ['The broker', FEED_RULES],
  ['The session on the feed', PUBLISH_RULES],
  ['Over HTTP', HANDLER_RULES],
])('%s: every option, with default and range', (heading, rules) => {
  const expected = Object.entries(rules).map(([name, { initial, range }]) => [
    name,
    initial === undefined ? '' : typeof initial === 'string' ? `'${initial}'` : String(initial),
    range.replaceAll('`', ''),
  ])
  const shown = table(heading, 'option')
  expect(shown.map((row) => row.slice(0, 3))).toEqual(expected)
  for (const [name, , , meaning = ''] of shown) expect(meaning.length, name).toBeGreaterThan(4)
})

test('every metric, with its labels', () => {
  const expected = Object.entries(FEED_METRICS).map(([name, [kind, labels, meaning]]) => [
    name,
    kind,
    labels.replaceAll(',', ' '),
    meaning,
  ])
  expect(table('The broker', 'metric')).toEqual(expected)
})
