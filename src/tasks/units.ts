/** Sizes of memory and lengths of time, as they are written in directives, options and files. */
import { ManyhostError } from '../errors.ts'

/** As in the ancestor and in Slurm, `2GB` and `2G` are 2 x 1024^3: a limit that is rounded up hurts nobody. */
const SIZES: Readonly<Record<string, number>> = { '': 0, k: 1, m: 2, g: 3, t: 4, p: 5 }

/**
 * Bytes: `4096`, `512MB`, `2G`, `1.5GiB`; powers of 1024, in any case.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function memorySize(given: string | number): number {
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
export function taskDuration(given: string | number): number {
  const text = String(given).trim()
  const clock = /^(?:(\d{1,4}):)?(\d{1,2}):(\d{2})$/.exec(text)
  if (clock) {
    const [hours, minutes, seconds] = clock.slice(1).map((one) => Number(one ?? 0))
    return ((hours as number) * 3600 + (minutes as number) * 60 + (seconds as number)) * 1_000
  }
  const match = /^(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h|d)?$/.exec(text)
  const ms = match && Number(match[1]) * (SECONDS[match[2] ?? 's'] as number) * 1_000
  // 16.1 s are 16100.000000000002 ms to the machine.
  if (ms) return Math.ceil(Number(ms.toFixed(3))) || 1
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `a time is seconds above 0, or like '250ms', '30s', '5m', '2h', '01:30:00', got ${JSON.stringify(given)}`,
  )
}
