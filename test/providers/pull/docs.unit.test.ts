/** The tables of docs/pull.md, and decisions that need no network. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { JobQueue } from '../../../providers/pull/job-queue.ts'
import { parseJson } from '../../../providers/pull/json.ts'
import { PULL_METRICS } from '../../../providers/pull/metrics.ts'
import { WORKERS_RULES } from '../../../providers/pull/options.ts'
import { compileSchema } from '../../../providers/pull/schema.ts'
import { deriveServiceId } from '../../../providers/pull/service-id.ts'
import { runWithTimeLimit, TimeLimitError } from '../../../providers/pull/time-limit.ts'
import { catchThrown } from '../../help.ts'

const text = readFileSync(new URL('../../../docs/pull.md', import.meta.url), 'utf8')

function table(heading: string): string[][] {
  const rows = text.slice(text.indexOf(`## ${heading}`)).split('\n')
  const from = rows.findIndex((row) => row.startsWith('| ---'))
  const lines = rows.slice(from + 1)
  const cells = lines.slice(
    0,
    lines.findIndex((row) => !row.startsWith('|')),
  )
  return cells.map((row) =>
    row
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim().replaceAll('`', '')),
  )
}

describe('docs/pull.md', () => {
  it('has every option with default and range', () => {
    const shown = table('Options').map(([name, initial, range]) => [name, initial, range])
    const expected = Object.entries(WORKERS_RULES).map(([name, { initial, range }]) => {
      const plain = name === 'about' || initial === undefined
      const written = initial === '' ? "''" : typeof initial === 'object' ? '{}' : String(initial)
      return [name, plain ? '' : written, range]
    })
    expect(shown).toEqual(expected)
  })

  it('has every metric', () => {
    expect(table('Metrics')).toEqual(
      Object.entries(PULL_METRICS).map(([name, [kind, labels, help]]) => [
        name,
        kind,
        labels,
        help,
      ]),
    )
  })
})

describe('the queue', () => {
  type QueuedJob = { seq: number; isQueued: boolean }
  const job = (seq: number): QueuedJob => ({ seq, isQueued: false })

  it('is first in, first out; a job that comes back gets its old place', () => {
    const queue = new JobQueue<QueuedJob>()
    const jobs = [1, 2, 3, 4].map(job)
    for (const one of jobs) queue.add(one)
    const [first, second] = [queue.take(), queue.take()]
    queue.add(second as QueuedJob)
    queue.add(first as QueuedJob)
    queue.remove(jobs[2] as QueuedJob)
    expect(queue.size).toBe(3)
    expect([queue.take(), queue.take(), queue.take(), queue.take()].map((one) => one?.seq)).toEqual(
      [1, 2, 4, undefined],
    )
  })

  it('passes over removed jobs, and keeps the order of 100,000', () => {
    const queue = new JobQueue<QueuedJob>()
    for (let seq = 1; seq <= 100_000; seq++) {
      const one = job(seq)
      queue.add(one)
      if (seq % 10 !== 0) queue.remove(one)
    }
    expect(queue.size).toBe(10_000)
    for (let seq = 10; seq <= 100_000; seq += 10) expect(queue.take()?.seq).toBe(seq)
    expect(queue.take()).toBeUndefined()
  })
})

describe('schemas', () => {
  const check = (schema: object, value: unknown) => {
    try {
      compileSchema(schema).check(parseJson(JSON.stringify(value)))
      return true
    } catch {
      return false
    }
  }
  const draft = (uri: string, rest: object) => ({ $schema: uri, ...rest })

  it('are of the draft that `$schema` names, and of draft 4 without it', () => {
    const four = { properties: { a: { maximum: 3, exclusiveMaximum: true } } }
    expect([check(four, { a: 2 }), check(four, { a: 3 })]).toEqual([true, false])
    for (const uri of [
      'http://json-schema.org/draft-06/schema#',
      'http://json-schema.org/draft-07/schema#',
      'https://json-schema.org/draft/2019-09/schema',
      'https://json-schema.org/draft/2020-12/schema',
    ]) {
      const later = draft(uri, { properties: { a: { exclusiveMaximum: 3 } } })
      expect([uri, check(later, { a: 2 }), check(later, { a: 3 })]).toEqual([uri, true, false])
    }
    const tuple = draft('https://json-schema.org/draft/2020-12/schema', {
      properties: { a: { prefixItems: [{ type: 'string' }] } },
    })
    expect([check(tuple, { a: ['x'] }), check(tuple, { a: [1] })]).toEqual([true, false])
  })

  it('check formats, and do not take inherited properties for properties', () => {
    const format = { properties: { d: { type: 'string', format: 'date-time' } } }
    expect(check(format, { d: '2026-11-22T06:00:00Z' })).toBe(true)
    expect(check(format, { d: 'tomorrow' })).toBe(false)
    expect(check({ required: ['constructor'] }, {})).toBe(false)
  })

  it.each([
    [{ type: 'strange' }, /type/],
    [{ $schema: 'http://json-schema.org/draft-99/schema' }, /no known draft/],
    [{ $async: true }, /\$async/],
    [{ $ref: 'https://elsewhere.test/schema' }, /resolve/],
    [{ description: 'x'.repeat(70_000) }, /more than 65536 bytes/],
    [[], /not an object/],
  ])('refuse %j', (schema, why) => {
    expect(catchThrown(() => compileSchema(schema)).message).toMatch(why)
  })
})

describe('the limit on what a check may cost', () => {
  it('a check during which the machine stood still has a second try', () => {
    const still = new Int32Array(new SharedArrayBuffer(4))
    let tries = 0
    const run = (): string => {
      if (tries++ === 0) Atomics.wait(still, 0, 0, 60_000)
      return 'checked'
    }
    expect(runWithTimeLimit(run, 300)).toBe('checked')
    expect(tries).toBe(2)
  })

  it('a check without an end is ended', () => {
    const run = (): void => {
      for (;;);
    }
    expect(() => runWithTimeLimit(run, 20)).toThrow(TimeLimitError)
  })
})

it('an id is derived from the virtual URL by RFC 9562: version 5, namespace of URLs', () => {
  // As Python's uuid.uuid5 has it.
  expect(deriveServiceId('http://calc')).toBe('e38bcf3a-f49f-5e25-be52-19ff1bc7bbd7')
  expect(deriveServiceId('http://calc')).not.toBe(deriveServiceId('http://calc2'))
})
