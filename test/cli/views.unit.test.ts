/** What is shown, without a terminal: tables, the screen of `top`, lines of the log. */
import { describe, expect, it } from 'vitest'
import { listAddresses } from '../../src/cli/serve/addresses.ts'
import { createRedactor, formatLogLine } from '../../src/cli/serve/log.ts'
import { readEvents } from '../../src/cli/sse.ts'
import { formatTable } from '../../src/cli/table.ts'
import { printable } from '../../src/cli/terminal.ts'
import { formatDuration } from '../../src/cli/text.ts'
import { applySnapshot, createTopState, moveSelection } from '../../src/cli/top/state.ts'
import {
  formatPlainRows,
  renderSparkline,
  renderTop,
  truncateLine,
} from '../../src/cli/top/view.ts'
import type { ClusterRow } from '../../src/gateway/admin/cluster-rows.ts'

const paint = (_style: unknown, text: string): string => text

function row(name: string, more: Partial<ClusterRow> = {}): ClusterRow {
  return {
    name,
    url: `http://${name}`,
    size: 2,
    minSize: 0,
    maxSize: null,
    concurrency: 4,
    states: { ready: 2 },
    inFlight: 1,
    queue: 0,
    oldestAge: 0,
    rate: 10,
    failing: 0,
    resends: 0,
    p50: 3,
    p99: 40,
    failure: null,
    ...more,
  }
}

describe('a table', () => {
  it('is as wide as it needs to be, colours not counted', () => {
    const rows = [
      ['a', '\u001b[31m10\u001b[39m'],
      ['long', '5'],
    ]
    expect(formatTable([{ title: 'X' }, { title: 'N', align: 'right' }], rows)).toEqual([
      'X      N',
      'a     \u001b[31m10\u001b[39m',
      'long   5',
    ])
  })

  it('shows durations in a few letters', () => {
    const times = [0, 0.4, 12.3, 999.7, 1_234, 9_960, 61_000, 125_000, 7_200_000, 2e8, null]
    expect(times.map(formatDuration)).toEqual([
      '0ms',
      '<1ms',
      '12ms',
      '1.0s',
      '1.2s',
      '10s',
      '61s',
      '2m',
      '2h',
      '2d',
      '-',
    ])
  })
})

describe('top', () => {
  it('keeps rows, their rates and what failed, and forgets what is gone', () => {
    const state = createTopState()
    applySnapshot(state, { whole: true, clusters: [row('a'), row('b')] })
    expect(state.selectedUrl).toBe('http://a')
    applySnapshot(state, { clusters: [row('a', { rate: 20 })] })
    expect(state.rates.get('http://a')).toEqual([20])
    expect(state.rates.get('http://b')).toEqual([10])
    moveSelection(state, 5)
    expect(state.selectedUrl).toBe('http://b')
    applySnapshot(state, { clusters: [], gone: ['http://b'] })
    expect([...state.rows.keys()]).toEqual(['http://a'])
    expect(state.selectedUrl).toBe('http://a')
  })

  it('fits its lines into the terminal, the chosen one in sight', () => {
    const state = createTopState()
    const clusters = Array.from({ length: 50 }, (_, index) => row(`service-${index}`))
    applySnapshot(state, { whole: true, clusters })
    moveSelection(state, 40)
    const lines = renderTop(state, { name: 'here', columns: 60, rows: 12 }, paint)
    expect(lines).toHaveLength(12)
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(60)
    expect(lines.find((line) => line.startsWith('>'))).toContain('service-40')
    expect(lines.at(-1)).toContain('q quit')
  })

  it('says what failed, and that it is disconnected, without letting it steer the terminal', () => {
    const state = createTopState()
    const failure = {
      id: 1,
      kind: 'error',
      service: 'http://a',
      instance: null,
      code: null,
    } as const
    const failures = [{ ...failure, text: 'no\u001b[2J good', output: null, count: 3, at: 0 }]
    applySnapshot(state, { whole: true, clusters: [row('a')], failures })
    state.connectionProblem = 'disconnected'
    const text = renderTop(state, { name: 'here', columns: 100, rows: 20 }, paint).join('\n')
    expect(text).toContain('http://a no\ufffd[2J good (3 times)')
    expect(text).toContain('disconnected')
  })

  it('is plain when piped', () => {
    const state = createTopState()
    applySnapshot(state, { whole: true, clusters: [row('a')] })
    expect(formatPlainRows(state, 'T')).toBe(
      'T a ready=2 size=2 busy=1 queue=0 rate=10 failing=0 p50=3ms p99=40ms\n',
    )
  })

  it('draws sparklines, and cuts lines without cutting colours', () => {
    expect(renderSparkline([0, 5, 10])).toBe('\u2581\u2585\u2588')
    expect(truncateLine('\u001b[31mabcdef\u001b[39m', 3)).toBe('\u001b[31mabc\u001b[39m')
  })
})

describe('the log', () => {
  it('is readable, with what an instance wrote below', () => {
    const line = {
      level: 'error',
      time: '2026-01-01T00:00:00Z',
      msg: 'it failed',
      reason: 'exit code 3',
      output: 'one\ntwo\n',
    } as const
    expect(formatLogLine(line, paint)).toMatch(
      /^\d\d:\d\d:\d\d error it failed \(exit code 3\)\n {2}\| one\n {2}\| two\n$/,
    )
  })

  it('blots secrets out, as they are written in JSON', () => {
    const blot = createRedactor(['pass"word', 'ab'])
    expect(blot(JSON.stringify({ msg: 'the pass"word, abc' }))).toBe('{"msg":"the [secret], abc"}')
  })
})

describe('the rest', () => {
  it('says where to look', () => {
    expect(listAddresses(['http://g:1'], 'http://a:2', ['http://calc'])).toEqual({
      gateway: 'http://g:1/calc/',
      dashboard: 'http://a:2/',
      metrics: 'http://a:2/metrics',
    })
    expect(listAddresses(['unix:/g', 'http://g:1'], undefined, ['http://a', 'http://b'])).toEqual({
      gateway: 'unix:/g',
      gateway2: 'http://g:1',
    })
  })

  it('reads events in whatever pieces they come', async () => {
    const text = 'retry: 1\n\nevent: a\ndata: {"x":\ndata: 1}\n\n: hello\n\ndata: \u00e4\n\n'
    const bytes = Buffer.from(text)
    const pieces = Array.from(bytes, (_, index) => bytes.subarray(index, index + 1))
    const found = []
    async function* body() {
      yield* pieces
    }
    for await (const event of readEvents(body())) found.push(event)
    expect(found).toEqual([
      { name: 'a', data: '{"x":\n1}' },
      { name: 'message', data: '\u00e4' },
    ])
  })

  it('shows text that cannot steer a terminal', () => {
    expect(printable('a\u001b]0;x\u0007\tb\u202e')).toBe('a\ufffd]0;x\ufffd\tb\ufffd')
  })
})
