/** Lengths of time and dates, as directives, options, filters and rows have them. Sizes of memory: `core/units.ts`. */
import { describe } from '../../core/describe.ts'
import { ManyhostError } from '../../core/errors.ts'
import { parseDuration } from '../../core/units.ts'

/**
 * Milliseconds of a task's time: as `parseDuration`, and a number is seconds, as in HyperShell.
 * @throws ManyhostError MANYHOST_INVALID_OPTION for anything that is not above 0
 */
export function parseTaskDuration(given: string | number): number {
  const ms = typeof given === 'number' ? secondsToMs(given) : parseDuration(given)
  if (ms !== undefined && ms > 0 && Number.isFinite(ms)) return ms
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `a time must be seconds above 0, or like '250ms', '30s', '5m', '2h' or '01:30:00', got ${describe(given)}`,
  )
}

/** 16.1 s are 16100.000000000002 ms in floating point. A time above 0 is at least 1 ms. */
function secondsToMs(seconds: number): number {
  const ms = seconds * 1_000
  return ms > 0 ? Math.max(Math.ceil(Number(ms.toFixed(3))), 1) : ms
}

/** Rows, filters and environment variables of a task have lengths of time in seconds, as HyperShell has them. */
export function toSeconds(ms: number): number {
  return ms / 1_000
}

const DATE = /^(\d{4})-(\d\d)-(\d\d)/
const CLOCK = /(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?/
const ZONE = /([Zz]|[+-]\d\d(?::?\d\d)?)?$/
const TIME = new RegExp(`${DATE.source}${CLOCK.source} ?${ZONE.source}`)

/**
 * Milliseconds since 1970 of `2026-12-01`, `2026-12-01T08:30`, `2026-12-01 08:30:00.5+01:00`. A time without a zone is in
 * the zone of this machine; a date alone is midnight in that zone.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function parseTime(text: string): number {
  const match = TIME.exec(text.trim())
  if (match) {
    const [year, month, day, hour, minute, second] = match
      .slice(1, 7)
      .map((one) => Number(one ?? 0)) as [number, number, number, number, number, number]
    const ms = Math.floor(Number(`0.${match[7] ?? 0}`) * 1_000)
    const at = Date.UTC(year, month - 1, day, hour, minute, second, ms)
    const isReal =
      new Date(Date.UTC(year, month - 1, day)).getUTCDate() === day &&
      month >= 1 &&
      month <= 12 &&
      hour < 24 &&
      minute < 60 &&
      second < 60
    if (isReal) {
      const offset = match[8] === undefined ? undefined : parseZoneMinutes(match[8])
      if (offset !== undefined) return at - offset * 60_000
      if (match[8] === undefined) {
        return new Date(year, month - 1, day, hour, minute, second, ms).getTime()
      }
    }
  }
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `a time must be like 2026-01-31, 2026-01-31T12:00:00 (both in the zone of this machine) or 2026-01-31T12:00:00Z, got ${describe(text)}`,
  )
}

/** Minutes east of Greenwich; undefined for a zone that does not exist. */
function parseZoneMinutes(zone: string): number | undefined {
  if (zone === 'Z' || zone === 'z') return 0
  const [hours, minutes] = [Number(zone.slice(1, 3)), Number(zone.slice(3).replace(':', '') || 0)]
  if (hours > 14 || minutes > 59) return undefined
  return (zone.startsWith('-') ? -1 : 1) * (hours * 60 + minutes)
}

/** Prints a time in UTC, with its zone, so that it means the same wherever it is read. */
export function formatTime(at: number): string {
  return new Date(at).toISOString()
}
