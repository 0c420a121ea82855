/** `'1MiB'` and `'30s'` as numbers. Pure. */
import { parseDuration } from '../core/time.ts'

const BYTE_UNITS: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
}

export const BYTES_PATTERN = '^\\d+(\\.\\d+)?\\s?([kKMGT]B|[KMGT]iB|B)$'
export const DURATION_PATTERN = '^\\d+(\\.\\d+)?(ms|s|m|h|d)$'

/** Whole bytes of `'512KiB'`, `'1.5 MiB'`, `'10MB'`; undefined for anything else. */
export function parseByteSize(text: string): number | undefined {
  const match = /^(\d{1,15}(?:\.\d{1,15})?)\s?([A-Za-z]{1,3})$/.exec(text)
  const unit =
    match && Object.hasOwn(BYTE_UNITS, match[2] as string) ? BYTE_UNITS[match[2] as string] : 0
  return match && unit ? Math.round(Number(match[1]) * unit) : undefined
}

/** Milliseconds of `'30s'`; undefined for anything else. */
export function parseMilliseconds(text: string): number | undefined {
  if (text.length > 30) return undefined
  try {
    return parseDuration(text)
  } catch {
    return undefined
  }
}
