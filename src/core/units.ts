/** Sizes in bytes and lengths of time as text: one parser for code, YAML, command lines, tasks and environment. Pure. */
import { ManyhostError } from './errors.ts'

/** `kB` is 10^3 and `KiB` 2^10. A bare letter, as Slurm and Docker take it (`2G`), is a power of 1024. */
const POWERS = ['k', 'm', 'g', 't', 'p']

function bytesPerUnit(unit: string): number | undefined {
  const name = unit.toLowerCase()
  if (name === '' || name === 'b') return 1
  const power = POWERS.indexOf(name.charAt(0)) + 1
  if (power === 0) return undefined
  const rest = name.slice(1)
  if (rest === 'b') return 1_000 ** power
  return rest === '' || rest === 'i' || rest === 'ib' ? 1_024 ** power : undefined
}

/** What `parseBytes` takes, for a JSON Schema. */
export const BYTES_PATTERN = '^\\d+(\\.\\d+)?\\s?([kKmMgGtTpP]([iI]?[bB]|[iI])?|[bB])?$'

/**
 * Whole bytes of `'4096'`, `'512MB'`, `'1.5 GiB'`, `'2G'`, in any case; undefined for any other text.
 * GB is 10^9 bytes, GiB and G are 2^30 bytes.
 */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d{1,15}(?:\.\d{1,15})?)\s?([a-z]{0,3})$/i.exec(text.trim())
  const unit = match ? bytesPerUnit(match[2] as string) : undefined
  if (!match || unit === undefined) return undefined
  const bytes = Math.round(Number(match[1]) * unit)
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

/**
 * As `parseBytes`, and takes a number of bytes.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function requireBytes(given: string | number): number {
  const bytes = parseBytes(String(given))
  if (bytes !== undefined) return bytes
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `a size must be a number of bytes, or like '512MB', '2G' or '1.5GiB', got ${JSON.stringify(given)}`,
  )
}

const MS_PER_UNIT: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/** What `parseDuration` takes, for a JSON Schema. */
export const DURATION_PATTERN = '^(\\d+(\\.\\d+)?(ms|s|m|h|d)?|(\\d{1,4}:)?\\d{1,2}:\\d{2})$'

/**
 * Milliseconds of `'250ms'`, `'30s'`, `'1.5m'`, `'2h'`, `'1d'`, `'01:30:00'` (h:m:s), `'10:00'` (m:s); undefined for any
 * other text. A text without a unit is seconds, as in HyperShell (`timeout:30`). Fractions of a millisecond round up.
 */
export function parseDuration(text: string): number | undefined {
  const given = text.trim()
  const clock = /^(?:(\d{1,4}):)?(\d{1,2}):(\d{2})$/.exec(given)
  if (clock) return clock.slice(1).reduce((sum, part) => sum * 60 + Number(part ?? 0), 0) * 1_000
  const match = /^(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h|d)?$/.exec(given)
  if (!match) return undefined
  const ms = Number(match[1]) * (MS_PER_UNIT[match[2] ?? 's'] as number)
  // 16.1 s are 16100.000000000002 ms in floating point: first rounded to a microsecond, then up.
  return Math.ceil(Number(ms.toFixed(3)))
}

/**
 * As `parseDuration`, and takes a number of milliseconds from 0 up.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function requireDuration(given: string | number): number {
  const ms = typeof given === 'number' ? given : parseDuration(given)
  if (ms !== undefined && ms >= 0) return ms
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `a duration must be like '250ms', '30s', '5m', '2h' or '01:30:00', or a number of milliseconds, got ${JSON.stringify(given)}`,
  )
}
