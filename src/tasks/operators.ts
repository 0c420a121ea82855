/** Operators of expressions, as Python has them. Whole numbers are exact, however large, up to 10^308. */
import type { Value } from './functions.ts'
import { Moment } from './moment.ts'
import { printf } from './printf.ts'

/** An expression that cannot be read, or has no value for this line. */
export class ExpressionError extends Error {
  override readonly name = 'ExpressionError'
}

/** Longest text or list. */
const LARGEST = 1_048_576

export function held(value: Value): Value {
  if ((typeof value === 'string' || Array.isArray(value)) && value.length > LARGEST) {
    throw new ExpressionError(`a value is larger than ${LARGEST}`)
  }
  return value
}

export function isTrue(value: Value): boolean {
  return Array.isArray(value) ? value.length > 0 : Boolean(value)
}

/** How a value stands in a command. */
export function toText(value: Value): string {
  if (typeof value === 'string') return value
  if (value === null) return 'None'
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  if (value instanceof Moment) return value.text()
  return Array.isArray(value) ? listText(value) : String(value)
}

/** A list may hold another one many times over: it is written as far as a text may go. */
function listText(list: readonly Value[]): string {
  const texts: string[] = []
  let left = LARGEST
  const write = (value: Value): void => {
    if (Array.isArray(value)) {
      for (const one of value) write(one)
      left -= 1
    } else {
      const text = toText(value)
      texts.push(text)
      left -= text.length + 1
    }
    if (left < 0) throw new ExpressionError(`a value is larger than ${LARGEST}`)
  }
  for (const one of list) write(one)
  return texts.join(' ')
}

/** A value in a message. */
export function describeValue(value: Value | undefined): string {
  if (value === undefined) return 'nothing'
  if (Array.isArray(value)) return `a list of ${value.length}`
  const text = toText(value)
  const short = text.length > 80 ? `${text.slice(0, 77)}...` : text
  return typeof value === 'string' ? JSON.stringify(short) : short
}

type Numeric = number | bigint

function numeric(operator: string, value: Value): Numeric {
  if (typeof value === 'number' || typeof value === 'bigint') return value
  if (typeof value === 'boolean') return Number(value)
  throw new ExpressionError(`${operator} wants numbers, got ${describeValue(value)}`)
}

export function unary(operator: string, value: Value): Value {
  if (operator === '!' || operator === 'not') return !isTrue(value)
  const number = numeric(operator, value)
  if (operator === '-') return -number
  if (operator === '+') return number
  return typeof number === 'bigint' ? ~number : -number - 1
}

export function comparison(operator: string, left: Value, right: Value): boolean {
  switch (operator) {
    case '==':
      return isSame(left, right)
    case '!=':
      return !isSame(left, right)
    case 'in':
      return contains(right, left)
    case 'not in':
      return !contains(right, left)
    default:
      return compared(operator, left, right)
  }
}

export function binary(operator: string, left: Value, right: Value): Value {
  if (operator === '+') return added(left, right)
  if (operator === '*') return multiplied(left, right)
  if (operator === '%' && typeof left === 'string') {
    const given = Array.isArray(right) ? right : [right]
    return held(printf(left, given, (value) => toText(value as Value)))
  }
  return arithmetic(operator, numeric(operator, left), numeric(operator, right))
}

function isSame(left: Value, right: Value): boolean {
  let steps = LARGEST
  const same = (a: Value, b: Value): boolean => {
    if (--steps < 0) throw new ExpressionError('lists that are too large to compare')
    if (Array.isArray(a) && Array.isArray(b)) {
      return a.length === b.length && a.every((one, index) => same(one, b[index] as Value))
    }
    if (a instanceof Moment && b instanceof Moment) return a.text() === b.text()
    return a === b
  }
  return same(left, right)
}

function contains(where: Value, what: Value): boolean {
  if (typeof where === 'string') return where.includes(toText(what))
  if (Array.isArray(where)) return where.some((one) => isSame(one, what))
  throw new ExpressionError('in wants a text or a list')
}

function compared(operator: string, left: Value, right: Value): boolean {
  const areTexts = typeof left === 'string' && typeof right === 'string'
  const areMoments = left instanceof Moment && right instanceof Moment
  const [a, b] = areTexts
    ? [left, right]
    : areMoments
      ? [left.at, right.at]
      : [numeric(operator, left), numeric(operator, right)]
  if (operator === '<') return a < b
  if (operator === '<=') return a <= b
  return operator === '>' ? a > b : a >= b
}

function added(left: Value, right: Value): Value {
  if (typeof left === 'string' || typeof right === 'string') {
    // Unlike in Python, a number joins a text: x is a number where the line looks like one.
    return held(toText(left) + toText(right))
  }
  if (Array.isArray(left) && Array.isArray(right)) return [...left, ...right]
  return arithmetic('+', numeric('+', left), numeric('+', right))
}

function multiplied(left: Value, right: Value): Value {
  const [many, times] =
    typeof left === 'string' || Array.isArray(left) ? [left, right] : [right, left]
  if (typeof many !== 'string' && !Array.isArray(many)) {
    return arithmetic('*', numeric('*', left), numeric('*', right))
  }
  const count = Math.max(0, Math.trunc(Number(numeric('*', times))))
  if (many.length * count > LARGEST) throw new ExpressionError(`a text is longer than ${LARGEST}`)
  if (typeof many === 'string') return many.repeat(count)
  const list: Value[] = []
  for (let time = 0; time < count; time++) for (const one of many) list.push(one)
  return list
}

function arithmetic(operator: string, a: Numeric, b: Numeric): Value {
  if (['/', '//', '%'].includes(operator) && Number(b) === 0) {
    throw new ExpressionError('division by zero')
  }
  if (!isWhole(a) || !isWhole(b) || operator === '/' || (operator === '**' && b < 0)) {
    return finite(real(operator, Number(a), Number(b)))
  }
  // What fits into a double is calculated with doubles: that is what nearly all are.
  const quick = typeof a === 'number' && typeof b === 'number' && QUICK[operator]?.(a, b)
  if (typeof quick === 'number' && Number.isSafeInteger(quick)) return quick
  if (operator === '**' || operator === '<<') finite(real(operator, Number(a), Number(b)))
  const exact = EXACT[operator]?.(BigInt(a), BigInt(b))
  if (exact === undefined) throw new ExpressionError(`there is no operator ${operator}`)
  finite(Number(exact))
  const number = Number(exact)
  return Number.isSafeInteger(number) ? number : exact
}

function isWhole(value: Numeric): boolean {
  return typeof value === 'bigint' || Number.isSafeInteger(value)
}

function real(operator: string, a: number, b: number): number {
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
      // The sign of the divisor, as in Python.
      return ((a % b) + b) % b
    case '**':
      return a ** b
    case '<<':
      return a * 2 ** b
    default:
      throw new ExpressionError(`${operator} wants whole numbers`)
  }
}

const QUICK: Readonly<Record<string, ((a: number, b: number) => number) | undefined>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '//': (a, b) => Math.floor(a / b),
  '%': (a, b) => ((a % b) + b) % b,
  '**': (a, b) => a ** b,
}

const EXACT: Readonly<Record<string, ((a: bigint, b: bigint) => bigint) | undefined>> = {
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

function finite(value: number): number {
  if (Number.isFinite(value)) return value
  throw new ExpressionError('the result is no finite number')
}
