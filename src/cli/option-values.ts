/** Parsers of option values. Each throws an Error that says what was expected. Pure. */
import { parseDuration, requireBytes } from '../core/units.ts'

export function parseInteger(value: string): number {
  if (/^-?\d{1,9}$/.test(value)) return Number(value)
  throw new Error('expected a whole number')
}

export function parseWholeNumber(value: string): number {
  if (/^\d{1,9}$/.test(value)) return Number(value)
  throw new Error('expected a whole number from 0 up')
}

export function parsePositiveInteger(value: string): number {
  if (/^[1-9]\d{0,8}$/.test(value)) return Number(value)
  throw new Error('expected a whole number from 1 up')
}

export function parsePositiveNumber(value: string): number {
  const number = Number(value)
  if (value.trim() !== '' && number > 0 && Number.isFinite(number)) return number
  throw new Error('expected a number above 0')
}

export function parseMethod(value: string): string {
  if (/^[\w!#$%&'*+.^`|~-]+$/.test(value)) return value.toUpperCase()
  throw new Error('expected the name of a method, such as PUT')
}

/** Bytes of `8GB`, `4096`: above 0. */
export function parsePositiveBytes(value: string): number {
  const bytes = requireBytes(value)
  if (bytes > 0) return bytes
  throw new Error('expected more than 0 bytes')
}

/** Milliseconds of `10m`, `250ms`, `01:30:00`. A number without a unit is seconds. */
export function parseDurationOption(value: string): number {
  const ms = parseDuration(value)
  if (ms !== undefined) return ms
  throw new Error(
    `expected a number of seconds, or a time such as '250ms', '30s', '5m', '01:30:00'`,
  )
}

/** As `parseDurationOption`, and above 0. */
export function parsePositiveDuration(value: string): number {
  const ms = parseDurationOption(value)
  if (ms > 0) return ms
  throw new Error('expected a time above 0')
}

/** As `parseDurationOption`, and may be negative: `-30`, `-5m`. */
export function parseSignedDuration(value: string): number {
  return value.startsWith('-') ? -parseDurationOption(value.slice(1)) : parseDurationOption(value)
}

/** An interval that divides an hour, a day, or is a number of days: `30m`, `6h`, `1d`. */
export function parseRotationInterval(value: string): string {
  const [, number, unit] = /^([1-9]\d{0,2})([dhm])$/.exec(value) ?? []
  const whole = { d: 0, h: 24, m: 60 }[unit as 'd' | 'h' | 'm']
  if (whole !== undefined && whole % Number(number) === 0) return value
  throw new Error(
    'expected days, or hours that divide a day, or minutes that divide an hour: 1d, 6h, 30m',
  )
}
