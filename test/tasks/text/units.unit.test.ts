/** Times, spans and sizes: how they are written, in a zone of any place, and what a filter takes them for. */

import { afterAll, describe, expect, it } from 'vitest'
import { parseTaskFilter } from '../../../src/tasks/store/filter.ts'
import {
  formatTime,
  parseTaskDuration,
  parseTime,
  toSeconds,
} from '../../../src/tasks/text/units.ts'
import fc from '../../properties.ts'

const zone = process.env.TZ
afterAll(() => {
  if (zone === undefined) delete process.env.TZ
  else process.env.TZ = zone
})

const ZONES = ['UTC', 'America/New_York', 'Asia/Kathmandu', 'Pacific/Auckland']

describe.each(ZONES)('a time, read in %s', (name) => {
  const inZone = <T>(work: () => T): T => {
    process.env.TZ = name
    return work()
  }

  it('is of this machine, with or without a time of day, where it names no zone', () => {
    inZone(() => {
      const midnight = new Date(2026, 11, 1).getTime()
      for (const text of [
        '2026-12-01',
        '2026-12-01T00:00',
        '2026-12-01 00:00',
        '2026-12-01 00:00:00',
        '2026-12-01T00:00:00.000',
      ]) {
        expect(parseTime(text), text).toBe(midnight)
      }
      const clock = new Date(2026, 5, 30, 17, 4, 5, 250).getTime()
      expect(parseTime('2026-06-30T17:04:05.25')).toBe(clock)
      expect(parseTime('2026-06-30 17:04:05.250999')).toBe(clock)
    })
  })

  it('is of the zone that it names', () => {
    inZone(() => {
      const at = Date.UTC(2026, 11, 1, 8, 30)
      for (const text of [
        '2026-12-01T08:30Z',
        '2026-12-01t08:30z',
        '2026-12-01T09:30+01:00',
        '2026-12-01 09:30:00+0100',
        '2026-12-01 03:30:00-05',
        '2026-12-01T08:30:00 Z',
        '2026-12-01T14:15:00.000000+05:45',
      ]) {
        expect(parseTime(text), text).toBe(at)
      }
      expect(parseTime('2026-12-01Z')).toBe(Date.UTC(2026, 11, 1))
    })
  })

  it('that is printed is read as the same', () => {
    inZone(() =>
      fc.assert(
        fc.property(
          fc.date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true }),
          (date) => {
            expect(parseTime(formatTime(date.getTime()))).toBe(date.getTime())
          },
        ),
      ),
    )
  })
})

describe('a time', () => {
  it.each([
    '',
    'x',
    '2026',
    '2026-12',
    '2026-13-01',
    '2026-02-30',
    '2026-12-01T24:00',
    'yesterday',
  ])('%s is none', (text) =>
    expect(() => parseTime(text)).toThrow(/a time must be like 2026-01-31/),
  )
  it.each([
    '2026-12-01T08',
    '2026-12-01T08:60',
    '2026-12-01T08:30+15:00',
    '1 May 2026',
    '12/1/2026',
  ])('%s is none either', (text) =>
    expect(() => parseTime(text)).toThrow(/a time must be like 2026-01-31/),
  )
})

describe('a filter', () => {
  const valueIn = (where: string) => parseTaskFilter({ where: [where] }).conditions[0]?.value

  it('has seconds in its text, as rows have them', () => {
    for (const field of ['timeout', 'duration', 'waited']) {
      expect(valueIn(`${field} > 30`)).toBe(30_000)
      expect(valueIn(`${field} > 0.25`)).toBe(250)
      expect(valueIn(`${field} == 0`)).toBe(0)
      expect(valueIn(`${field} < 30s`)).toBe(30_000)
      expect(valueIn(`${field} < 250ms`)).toBe(250)
      expect(valueIn(`${field} < 01:30:00`)).toBe(5_400_000)
      expect(valueIn(`${field} == null`)).toBe(null)
      expect(() => valueIn(`${field} > soon`)).toThrow(/a time must be seconds/)
    }
    const seconds = 1_790_000_000
    expect(valueIn(`submit_time > ${seconds}`)).toBe(seconds * 1_000)
    expect(() => valueIn(`submit_time > ${seconds * 1_000}`)).toThrow(/milliseconds\?/)
  })

  it('that is an object has the values of a task, milliseconds', () => {
    const one = (field: string, value: number) =>
      parseTaskFilter({ where: [{ field, operator: '>', value }] }).conditions[0]?.value
    expect(one('duration', 30_000)).toBe(30_000)
    expect(one('submit_time', 1_790_000_000_000)).toBe(1_790_000_000_000)
  })

  it('takes a date alone for midnight here, as it takes one with a time of day', () => {
    for (const name of ZONES) {
      process.env.TZ = name
      expect(valueIn('submit_time >= 2026-12-01')).toBe(new Date(2026, 11, 1).getTime())
      expect(valueIn("completion_time < '2026-12-01 00:00'")).toBe(new Date(2026, 11, 1).getTime())
    }
  })
})

describe('a span', () => {
  it('is the same after it was printed in seconds and read again, to the millisecond', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e12 }), (ms) => {
        expect(parseTaskDuration(toSeconds(ms))).toBe(ms)
        expect(parseTaskDuration(String(toSeconds(ms)))).toBe(ms)
      }),
    )
  })

  it.each(['00:00', '0:00:00', '0', '0s', '-1', '1e3', ''])('%s is none', (text) => {
    expect(() => parseTaskDuration(text)).toThrow(/a time must be seconds above 0/)
  })
})
