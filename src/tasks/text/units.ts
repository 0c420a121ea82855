/** Sizes of memory, lengths of time, and dates, as they are written in directives, options, filters and rows. */
import { ManyhostError } from '../../core/errors.ts'

/** As in the ancestor and in Slurm, `2GB` and `2G` are 2 x 1024^3: a limit that is rounded up hurts nobody. */
const SIZES: Readonly<Record<string, number>> = { '': 0, k: 1, m: 2, g: 3, t: 4, p: 5 }

/**
 * Bytes: `4096`, `512MB`, `2G`, `1.5GiB`; powers of 1024, in any case.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function parseMemorySize(given: string | number): number {
  const match = /^(\d{1,15}(?:\.\d{1,9})?)\s*([kmgtp]?)(?:i?b)?$/i.exec(String(given).trim())
  const bytes = match
    ? Math.ceil(Number(match[1]) * 1024 ** (SIZES[(match[2] as string).toLowerCase()] as number))
    : Number.NaN
  if (Number.isSafeInteger(bytes)) return bytes
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `a size is a number of bytes or like '512MB', '2G', '1.5GiB', got ${JSON.stringify(given)}`,
  )
}

const SECONDS: Readonly<Record<string, number>> = { ms: 1e-3, s: 1, m: 60, h: 3600, d: 86_400 }

/**
 * Milliseconds: `30` and `30s` are seconds, as the ancestor's are, also `250ms`, `5m`, `1.5h`, `1d`, `01:30:00`.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function parseTaskDuration(given: string | number): number {
  const text = String(given).trim()
  const clock = /^(?:(\d{1,4}):)?(\d{1,2}):(\d{2})$/.exec(text)
  const match = /^(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h|d)?$/.exec(text)
  const seconds = clock
    ? clock.slice(1).reduce((sum, one) => sum * 60 + Number(one ?? 0), 0)
    : match && Number(match[1]) * (SECONDS[match[2] ?? 's'] as number)
  const ms = (typeof given === 'number' ? given : seconds || 0) * 1_000
  if (ms > 0 && Number.isFinite(ms)) return roundUpMs(ms)
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `a time is seconds above 0, or like '250ms', '30s', '5m', '2h', '01:30:00', got ${JSON.stringify(given)}`,
  )
}

/** What a task's time is in rows, filters and variables of the environment: seconds, as the ancestor has them. */
export function toSeconds(ms: number): number {
  return ms / 1_000
}

/** 16.1 s are 16100.000000000002 ms to the machine. A time above 0 is 1 ms at least. */
function roundUpMs(ms: number): number {
  return Math.ceil(Number(ms.toFixed(3))) || 1
}

const DATE = /^(\d{4})-(\d\d)-(\d\d)/
const CLOCK = /(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?/
const ZONE = /([Zz]|[+-]\d\d(?::?\d\d)?)?$/
const TIME = new RegExp(`${DATE.source}${CLOCK.source} ?${ZONE.source}`)

/**
 * Milliseconds since 1970 of `2026-12-01`, `2026-12-01T08:30`, `2026-12-01 08:30:00.5+01:00`. Without a zone it is this
 * machine's time, with or without a clock time: a date alone is its midnight here.
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
    `a time is like 2026-01-31, 2026-01-31T12:00:00 (both of this machine's zone) or 2026-01-31T12:00:00Z, got ${JSON.stringify(text)}`,
  )
}

/** East of Greenwich; undefined where there is no such zone. */
function parseZoneMinutes(zone: string): number | undefined {
  if (zone === 'Z' || zone === 'z') return 0
  const [hours, minutes] = [Number(zone.slice(1, 3)), Number(zone.slice(3).replace(':', '') || 0)]
  if (hours > 14 || minutes > 59) return undefined
  return (zone.startsWith('-') ? -1 : 1) * (hours * 60 + minutes)
}

/** How a time is printed: in UTC, with its zone, so that it means the same wherever it is read. */
export function formatTime(at: number): string {
  return new Date(at).toISOString()
}
