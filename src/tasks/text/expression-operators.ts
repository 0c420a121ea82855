/** The operators of expressions, as Python has them. Whole numbers are exact up to 10^308. */

import { ExpressionDate } from './expression-date.ts'
import type { ExpressionValue } from './expression-value.ts'
import { printf } from './printf.ts'
import { MAX_TEXT_LENGTH } from './text-limit.ts'

/** An expression is invalid, or has no value for this line. */
export class ExpressionError extends Error {
  override readonly name = 'ExpressionError'
}

export function checkValueSize(value: ExpressionValue): ExpressionValue {
  if ((typeof value === 'string' || Array.isArray(value)) && value.length > MAX_TEXT_LENGTH) {
    throw new ExpressionError(`a value is larger than ${MAX_TEXT_LENGTH}`)
  }
  return value
}

export function isTruthy(value: ExpressionValue): boolean {
  return Array.isArray(value) ? value.length > 0 : Boolean(value)
}

/** The text of a value in a command. */
export function valueToText(value: ExpressionValue): string {
  if (typeof value === 'string') return value
  if (value === null) return 'None'
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  if (value instanceof ExpressionDate) return value.toText()
  return Array.isArray(value) ? listToText(value) : String(value)
}

/** A list may contain another list many times over, so the length of the text is checked while it is made. */
function listToText(list: readonly ExpressionValue[]): string {
  const texts: string[] = []
  let left = MAX_TEXT_LENGTH
  const write = (value: ExpressionValue): void => {
    if (Array.isArray(value)) {
      for (const one of value) write(one)
      left -= 1
    } else {
      const text = valueToText(value)
      texts.push(text)
      left -= text.length + 1
    }
    if (left < 0) throw new ExpressionError(`a value is larger than ${MAX_TEXT_LENGTH}`)
  }
  for (const one of list) write(one)
  return texts.join(' ')
}

/** A value, shortened for a message. */
export function describeValue(value: ExpressionValue | undefined): string {
  if (value === undefined) return 'nothing'
  if (Array.isArray(value)) return `a list of ${value.length}`
  const text = valueToText(value)
  const short = text.length > 80 ? `${text.slice(0, 77)}...` : text
  return typeof value === 'string' ? JSON.stringify(short) : short
}

type Numeric = number | bigint

function requireNumeric(operator: string, value: ExpressionValue): Numeric {
  if (typeof value === 'number' || typeof value === 'bigint') return value
  if (typeof value === 'boolean') return Number(value)
  throw new ExpressionError(`${operator} needs numbers, got ${describeValue(value)}`)
}

export function applyUnary(operator: string, value: ExpressionValue): ExpressionValue {
  if (operator === '!' || operator === 'not') return !isTruthy(value)
  const number = requireNumeric(operator, value)
  if (operator === '-') return -number
  if (operator === '+') return number
  return typeof number === 'bigint' ? ~number : -number - 1
}

export function applyComparison(
  operator: string,
  left: ExpressionValue,
  right: ExpressionValue,
): boolean {
  switch (operator) {
    case '==':
      return isEqual(left, right)
    case '!=':
      return !isEqual(left, right)
    case 'in':
      return contains(right, left)
    case 'not in':
      return !contains(right, left)
    default:
      return compareOrdered(operator, left, right)
  }
}

export function applyBinary(
  operator: string,
  left: ExpressionValue,
  right: ExpressionValue,
): ExpressionValue {
  if (operator === '+') return addValues(left, right)
  if (operator === '*') return multiplyValues(left, right)
  if (operator === '%' && typeof left === 'string') {
    const given = Array.isArray(right) ? right : [right]
    return checkValueSize(printf(left, given, (value) => valueToText(value as ExpressionValue)))
  }
  return applyArithmetic(operator, requireNumeric(operator, left), requireNumeric(operator, right))
}

function isEqual(left: ExpressionValue, right: ExpressionValue): boolean {
  let steps = MAX_TEXT_LENGTH
  const same = (a: ExpressionValue, b: ExpressionValue): boolean => {
    if (--steps < 0) throw new ExpressionError('the lists are too large to compare')
    if (Array.isArray(a) && Array.isArray(b)) {
      return (
        a.length === b.length && a.every((one, index) => same(one, b[index] as ExpressionValue))
      )
    }
    if (a instanceof ExpressionDate && b instanceof ExpressionDate) return a.toText() === b.toText()
    return a === b
  }
  return same(left, right)
}

function contains(where: ExpressionValue, what: ExpressionValue): boolean {
  if (typeof where === 'string') return where.includes(valueToText(what))
  if (Array.isArray(where)) return where.some((one) => isEqual(one, what))
  throw new ExpressionError('in needs a text or a list')
}

function compareOrdered(operator: string, left: ExpressionValue, right: ExpressionValue): boolean {
  const areTexts = typeof left === 'string' && typeof right === 'string'
  const areMoments = left instanceof ExpressionDate && right instanceof ExpressionDate
  const [a, b] = areTexts
    ? [left, right]
    : areMoments
      ? [left.timeMs, right.timeMs]
      : [requireNumeric(operator, left), requireNumeric(operator, right)]
  if (operator === '<') return a < b
  if (operator === '<=') return a <= b
  return operator === '>' ? a > b : a >= b
}

function addValues(left: ExpressionValue, right: ExpressionValue): ExpressionValue {
  if (typeof left === 'string' || typeof right === 'string') {
    // Unlike in Python, a number can be added to a text: x is a number whenever the line is written as one.
    return checkValueSize(valueToText(left) + valueToText(right))
  }
  if (Array.isArray(left) && Array.isArray(right)) return [...left, ...right]
  return applyArithmetic('+', requireNumeric('+', left), requireNumeric('+', right))
}

function multiplyValues(left: ExpressionValue, right: ExpressionValue): ExpressionValue {
  const [many, times] =
    typeof left === 'string' || Array.isArray(left) ? [left, right] : [right, left]
  if (typeof many !== 'string' && !Array.isArray(many)) {
    return applyArithmetic('*', requireNumeric('*', left), requireNumeric('*', right))
  }
  const count = Math.max(0, Math.trunc(Number(requireNumeric('*', times))))
  if (many.length * count > MAX_TEXT_LENGTH)
    throw new ExpressionError(`a text is longer than ${MAX_TEXT_LENGTH}`)
  if (typeof many === 'string') return many.repeat(count)
  const list: ExpressionValue[] = []
  for (let time = 0; time < count; time++) for (const one of many) list.push(one)
  return list
}

function applyArithmetic(operator: string, a: Numeric, b: Numeric): ExpressionValue {
  if (['/', '//', '%'].includes(operator) && Number(b) === 0) {
    throw new ExpressionError('division by zero')
  }
  if (!isWhole(a) || !isWhole(b) || operator === '/' || (operator === '**' && b < 0)) {
    return requireFinite(calculateFloat(operator, Number(a), Number(b)))
  }
  // Nearly all numbers fit into a double, and doubles are faster than bigints.
  const quick = typeof a === 'number' && typeof b === 'number' && DOUBLE_OPERATORS[operator]?.(a, b)
  if (typeof quick === 'number' && Number.isSafeInteger(quick)) return quick
  if (operator === '**' || operator === '<<')
    requireFinite(calculateFloat(operator, Number(a), Number(b)))
  const exact = BIGINT_OPERATORS[operator]?.(BigInt(a), BigInt(b))
  if (exact === undefined) throw new ExpressionError(`there is no operator ${operator} for numbers`)
  requireFinite(Number(exact))
  const number = Number(exact)
  return Number.isSafeInteger(number) ? number : exact
}

function isWhole(value: Numeric): boolean {
  return typeof value === 'bigint' || Number.isSafeInteger(value)
}

function calculateFloat(operator: string, a: number, b: number): number {
  switch (operator) {
    case '+':
      return a + b
    case '-':
      return a - b
    case '*':
      return a * b
    case '/':
      return a / b
    case '//':
      return Math.floor(a / b)
    case '%':
      // The result has the sign of the divisor, as in Python.
      return ((a % b) + b) % b
    case '**':
      return a ** b
    case '<<':
      return a * 2 ** b
    default:
      throw new ExpressionError(`${operator} needs whole numbers`)
  }
}

const DOUBLE_OPERATORS: Readonly<Record<string, ((a: number, b: number) => number) | undefined>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '//': (a, b) => Math.floor(a / b),
  '%': (a, b) => ((a % b) + b) % b,
  '**': (a, b) => a ** b,
}

const BIGINT_OPERATORS: Readonly<Record<string, ((a: bigint, b: bigint) => bigint) | undefined>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '//': (a, b) => (a - modulo(a, b)) / b,
  '%': modulo,
  '**': (a, b) => a ** b,
  '&': (a, b) => a & b,
  '|': (a, b) => a | b,
  '^': (a, b) => a ^ b,
  '<<': (a, b) => a << b,
  '>>': (a, b) => a >> b,
  '>>>': (a, b) => a >> b,
}

function modulo(a: bigint, b: bigint): bigint {
  return ((a % b) + b) % b
}

function requireFinite(value: number): number {
  if (Number.isFinite(value)) return value
  throw new ExpressionError('the result is not a finite number')
}
