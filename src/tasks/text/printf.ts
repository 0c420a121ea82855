/** Formats `"%03d_%s" % (n, name)` as Python does. */

import { MAX_TEXT_LENGTH } from './text-limit.ts'

type ToText = (value: unknown) => string

const FORM = /%([-+ #0]*)(\d+|\*)?(?:\.(\d+|\*))?[hlL]?(.)/gs

/**
 * @param toText makes the text of a value, for `%s`
 * @throws TypeError where the values do not match the format
 */
export function printf(form: string, given: readonly unknown[], toText: ToText): string {
  let at = 0
  let length = form.length
  const next = (): unknown => {
    if (at >= given.length)
      throw new TypeError(`${JSON.stringify(form)} needs more values than ${given.length}`)
    return given[at++]
  }
  const size = (text: string | undefined): number | undefined => {
    const number = text === '*' ? Number(next()) : text === undefined ? undefined : Number(text)
    const fits =
      number === undefined || (Number.isInteger(number) && Math.abs(number) <= MAX_TEXT_LENGTH)
    if (fits) return number
    throw new RangeError(`a width can be at most ${MAX_TEXT_LENGTH}`)
  }
  const text = form.replace(FORM, (whole, flags: string, wide, exact, letter: string) => {
    if (letter === '%') return '%'
    const width = size(wide) ?? 0
    const precision = size(exact)
    const made = formatOne(letter, next(), flags, precision, toText)
    if (made === undefined) throw new TypeError(`${whole} is not a format that is known`)
    length += Math.max(made.length, Math.abs(width))
    if (length > MAX_TEXT_LENGTH) throw new RangeError(`a text is longer than ${MAX_TEXT_LENGTH}`)
    return padToWidth(made, width, flags, letter)
  })
  if (at === given.length) return text
  throw new TypeError(`${JSON.stringify(form)} needs ${at} values, got ${given.length}`)
}

function padToWidth(made: string, width: number, flags: string, letter: string): string {
  if (flags.includes('-') || width < 0) return made.padEnd(Math.abs(width))
  if (!flags.includes('0') || 'src'.includes(letter)) return made.padStart(width)
  const sign = /^[-+ ]?(?:0[xo])?/.exec(made)?.[0] ?? ''
  return sign + made.slice(sign.length).padStart(width - sign.length, '0')
}

function formatOne(
  letter: string,
  value: unknown,
  flags: string,
  precision: number | undefined,
  toText: ToText,
): string | undefined {
  switch (letter) {
    case 's':
      return toText(value).slice(0, precision)
    case 'r':
      return (typeof value === 'string' ? JSON.stringify(value) : toText(value)).slice(0, precision)
    case 'c':
      return typeof value === 'number' ? String.fromCodePoint(value) : toText(value)
    case 'd':
    case 'i':
    case 'u':
      return withSign(toBigInt(value, letter), flags, (digits) =>
        digits.toString().padStart(precision ?? 0, '0'),
      )
    case 'x':
    case 'X':
    case 'o': {
      const before = flags.includes('#') ? `0${letter}` : ''
      const made = withSign(toBigInt(value, letter), flags, (digits) => {
        return before + digits.toString(letter === 'o' ? 8 : 16).padStart(precision ?? 0, '0')
      })
      return letter === 'X' ? made.toUpperCase() : made
    }
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G': {
      const number = toFloat(value, letter)
      const sign = number < 0 || Object.is(number, -0) ? '-' : plusSign(flags)
      const made =
        sign + formatFloat(letter.toLowerCase(), Math.abs(number), Math.min(precision ?? 6, 100))
      return letter === 'E' || letter === 'G' ? made.toUpperCase() : made
    }
    default:
      return undefined
  }
}

function withSign(number: bigint, flags: string, show: (digits: bigint) => string): string {
  return number < 0n ? `-${show(-number)}` : plusSign(flags) + show(number)
}

function plusSign(flags: string): string {
  return flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : ''
}

function toBigInt(value: unknown, letter: string): bigint {
  if (typeof value === 'bigint') return value
  return BigInt(Math.trunc(toFloat(value, letter)))
}

function toFloat(value: unknown, letter: string): number {
  if (typeof value === 'boolean' || typeof value === 'bigint') return Number(value)
  if (typeof value === 'number') return value
  throw new TypeError(`%${letter} needs a number, got ${JSON.stringify(value) ?? 'nothing'}`)
}

function formatFloat(letter: string, number: number, precision: number): string {
  // From 10^21 up `toFixed` writes an exponent, unlike Python.
  if (letter === 'f') return number.toFixed(precision)
  if (letter === 'e') return padExponent(number.toExponential(precision))
  const digits = precision || 1
  const exponent = number === 0 ? 0 : Number(number.toExponential(digits - 1).split('e')[1])
  const short = (text: string): string => (text.includes('.') ? text.replace(/\.?0+$/, '') : text)
  if (exponent >= -4 && exponent < digits)
    return short(number.toFixed(Math.max(0, digits - 1 - exponent)))
  const [mantissa = '', power = ''] = number.toExponential(digits - 1).split('e')
  return padExponent(`${short(mantissa)}e${power}`)
}

/** Python writes at least two digits of an exponent. */
function padExponent(text: string): string {
  return text.replace(/e([+-])(\d)$/, 'e$10$2')
}
