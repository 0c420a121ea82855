/** Numbers of the command line. Each throws an Error with what was expected. Pure. */
import { parseTaskDuration } from '../../tasks/text/units.ts'

export function parseInteger(value: string): number {
  if (/^-?\d{1,9}$/.test(value)) return Number(value)
  throw new Error('expected a whole number')
}

export function parseCount(value: string): number {
  if (/^\d{1,9}$/.test(value)) return Number(value)
  throw new Error('expected a whole number from 0 up')
}

export function parsePositiveCount(value: string): number {
  if (/^[1-9]\d{0,8}$/.test(value)) return Number(value)
  throw new Error('expected a whole number from 1 up')
}

export function parseNumberAboveZero(value: string): number {
  const number = Number(value)
  if (value.trim() !== '' && number > 0 && Number.isFinite(number)) return number
  throw new Error('expected a number above 0')
}

/** Milliseconds; a plain number is of seconds, as the ancestor's are. */
export function parseSecondsToMs(value: string): number {
  return value === '0' ? 0 : parseTaskDuration(value)
}

export function parseSignedSecondsToMs(value: string): number {
  const number = Number(value)
  if (value.trim() !== '' && Number.isFinite(number)) return number * 1_000
  throw new Error('expected a number of seconds')
}

/** A time that ends with each hour, or day, again and again: `1d`, `6h`, `30m`. */
export function parseRotationInterval(value: string): string {
  const [, number, unit] = /^([1-9]\d{0,2})([dhm])$/.exec(value) ?? []
  const whole = { d: 0, h: 24, m: 60 }[unit as 'd' | 'h' | 'm']
  if (whole !== undefined && whole % Number(number) === 0) return value
  throw new Error(
    'expected days, or hours or minutes that a day or an hour is made of: 1d, 6h, 30m',
  )
}
