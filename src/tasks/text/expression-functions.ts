/** The names and methods that an expression in a template can use, as Python has them. */
import { posix } from 'node:path'
import { wallClock } from '../../core/time.ts'
import { ExpressionDate } from './expression-date.ts'
import {
  applyBinary,
  applyComparison,
  describeValue,
  isTruthy,
  valueToText,
} from './expression-operators.ts'
import type { ExpressionValue } from './expression-value.ts'
import { MAX_TEXT_LENGTH } from './text-limit.ts'

type ExpressionFunction = (...given: ExpressionValue[]) => ExpressionValue

function requireText(value: ExpressionValue | undefined, name: string): string {
  if (typeof value === 'string') return value
  // The line `7` is a number; functions for texts and paths take it as a text.
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  throw new TypeError(`${name} needs a text, got ${describeValue(value)}`)
}

function requireNumber(value: ExpressionValue | undefined, name: string): number {
  const got = typeof value === 'string' && value.trim() !== '' ? Number(value) : value
  if (typeof got === 'number' && Number.isFinite(got)) return got
  if (typeof got === 'boolean' || typeof got === 'bigint') return Number(got)
  throw new TypeError(`${name} needs a number, got ${describeValue(value)}`)
}

function requireList(value: ExpressionValue | undefined, name: string): ExpressionValue[] {
  if (Array.isArray(value)) return value
  if (typeof value === 'string') return [...value]
  throw new TypeError(`${name} needs a list, got ${describeValue(value)}`)
}

function requireWidth(value: ExpressionValue | undefined, name: string): number {
  const got = requireNumber(value, name)
  if (got <= MAX_TEXT_LENGTH) return Math.max(0, Math.trunc(got))
  throw new RangeError(`${name}: a width can be at most ${MAX_TEXT_LENGTH}, got ${got}`)
}

/** A function of numbers. Its result must be a finite number, too. */
function numberFunction(name: string, how: (...given: number[]) => number): ExpressionFunction {
  return (...given) => {
    const result = how(...given.map((one) => requireNumber(one, name)))
    if (Number.isFinite(result)) return result
    throw new RangeError(`${name}: the result is not a finite number`)
  }
}

function textFunction(name: string, how: (given: string) => ExpressionValue): ExpressionFunction {
  return (given) => how(requireText(given, name))
}

/** Rounds a half to the even neighbour, as Python does. */
function roundHalfToEven(value: number, digits = 0): number {
  const factor = 10 ** Math.trunc(digits)
  const scaled = value * factor
  const down = Math.floor(scaled)
  const isHalf = scaled - down === 0.5
  return (isHalf ? (down % 2 === 0 ? down : down + 1) : Math.round(scaled)) / factor
}

/** As Python's `os.path.split`: the part before the last slash, and the part after it. */
function splitPath(path: string): [head: string, tail: string] {
  const at = path.lastIndexOf('/') + 1
  let end = at
  while (path[end - 1] === '/') end--
  return [path.slice(0, end || at), path.slice(at)]
}

/** The extension with its dot. A folder (`a.d/`) has none, and neither has `.profile`. */
export function extensionOf(path: string): string {
  return path.endsWith('/') ? '' : posix.extname(path)
}

const PATHS: Record<string, ExpressionFunction> = {
  basename: textFunction('basename', (given) => splitPath(given)[1]),
  dirname: textFunction('dirname', (given) => splitPath(given)[0]),
  normpath: textFunction('normpath', (given) => posix.normalize(given).replace(/(?<=.)\/$/, '')),
  isabs: textFunction('isabs', (given) => posix.isAbsolute(given)),
  join: (...given) => {
    const parts = given.map((one) => requireText(one, 'join'))
    const root = parts.findLastIndex((one) => one.startsWith('/'))
    return parts
      .slice(Math.max(0, root))
      .reduce((a, b) => (a === '' || a.endsWith('/') ? a + b : `${a}/${b}`), '')
  },
  split: textFunction('split', splitPath),
  splitext: textFunction('splitext', (given) => {
    const extension = extensionOf(given)
    return [given.slice(0, given.length - extension.length), extension]
  }),
}

const MATH: Record<string, ExpressionFunction> = {
  sqrt: numberFunction('sqrt', Math.sqrt),
  exp: numberFunction('exp', Math.exp),
  log: numberFunction('log', (x, base) =>
    base === undefined ? Math.log(x) : Math.log(x) / Math.log(base),
  ),
  log2: numberFunction('log2', Math.log2),
  log10: numberFunction('log10', Math.log10),
  sin: numberFunction('sin', Math.sin),
  cos: numberFunction('cos', Math.cos),
  tan: numberFunction('tan', Math.tan),
  asin: numberFunction('asin', Math.asin),
  acos: numberFunction('acos', Math.acos),
  atan: numberFunction('atan', Math.atan),
  atan2: numberFunction('atan2', Math.atan2),
  hypot: numberFunction('hypot', Math.hypot),
  floor: numberFunction('floor', Math.floor),
  ceil: numberFunction('ceil', Math.ceil),
  trunc: numberFunction('trunc', Math.trunc),
  fabs: numberFunction('fabs', Math.abs),
  pow: numberFunction('pow', (x, y) => x ** y),
  radians: numberFunction('radians', (x) => (x * Math.PI) / 180),
  degrees: numberFunction('degrees', (x) => (x * 180) / Math.PI),
}

/** Functions and constants, by `name` or `table.name`. */
export const EXPRESSION_NAMES: ReadonlyMap<
  string,
  ExpressionFunction | Exclude<ExpressionValue, null>
> = new Map([
  ['int', toInteger],
  ['float', numberFunction('float', (x) => x)],
  ['str', (given: ExpressionValue) => valueToText(given ?? '')],
  ['bool', (given: ExpressionValue) => isTruthy(given ?? false)],
  [
    'len',
    (given: ExpressionValue) =>
      Array.isArray(given) ? given.length : requireText(given, 'len').length,
  ],
  ['abs', numberFunction('abs', Math.abs)],
  ['min', variadicFunction('min', Math.min)],
  ['max', variadicFunction('max', Math.max)],
  [
    'sum',
    (given: ExpressionValue) =>
      requireList(given, 'sum').reduce((a, b) => applyBinary('+', a, b), 0),
  ],
  ['any', (given: ExpressionValue) => requireList(given, 'any').some(isTruthy)],
  ['all', (given: ExpressionValue) => requireList(given, 'all').every(isTruthy)],
  ['list', (given: ExpressionValue) => [...requireList(given, 'list')]],
  ['sorted', (given: ExpressionValue) => requireList(given, 'sorted').toSorted(compareValues)],
  ['reversed', (given: ExpressionValue) => requireList(given, 'reversed').toReversed()],
  [
    'enumerate',
    (given: ExpressionValue) => requireList(given, 'enumerate').map((one, index) => [index, one]),
  ],
  ['zip', zipLists],
  ['range', makeRange],
  ['round', numberFunction('round', roundHalfToEven)],
  ['pow', numberFunction('pow', (x, y) => x ** y)],
  ['ord', textFunction('ord', (given) => given.codePointAt(0) ?? 0)],
  ['chr', (given: ExpressionValue) => String.fromCodePoint(requireNumber(given, 'chr'))],
  ['math.pi', Math.PI],
  ['math.e', Math.E],
  ...Object.entries(MATH).map(([name, how]) => [`math.${name}`, how] as const),
  ...Object.entries(PATHS).map(([name, how]) => [`os.path.${name}`, how] as const),
  ...Object.entries(PATHS).map(([name, how]) => [`path.${name}`, how] as const),
  ['os.sep', '/'],
  ['dt.now', () => new Date(wallClock()).toISOString()],
  ['dt.today', () => new ExpressionDate('date', wallClock()).toText()],
  ['dt.datetime.now', () => new ExpressionDate('datetime', wallClock())],
  ['dt.datetime.today', () => new ExpressionDate('datetime', wallClock())],
  ['dt.date.today', () => new ExpressionDate('date', wallClock())],
  ['dt.datetime.fromtimestamp', (given) => dateFromTimestamp('datetime', given)],
  ['dt.date.fromtimestamp', (given) => dateFromTimestamp('date', given)],
  ['dt.timestamp', () => wallClock() / 1_000],
] as readonly (readonly [string, ExpressionFunction | Exclude<ExpressionValue, null>])[])

/** A text of digits becomes that number, however long it is. */
function toInteger(value: ExpressionValue | undefined): ExpressionValue {
  if (typeof value === 'bigint') return value
  const digits = typeof value === 'string' && /^\s*([+-]?\d{1,300})\s*$/.exec(value)?.[1]
  if (digits && !Number.isSafeInteger(Number(digits))) return BigInt(digits.replace('+', ''))
  return numberFunction('int', Math.trunc)(value ?? null)
}

/** Takes its numbers as arguments, or as one list. */
function variadicFunction(name: string, how: (...given: number[]) => number): ExpressionFunction {
  const all = numberFunction(name, how)
  return (...given) => {
    const [first] = given
    return all(...(given.length === 1 && Array.isArray(first) ? first : given))
  }
}

function compareValues(a: ExpressionValue, b: ExpressionValue): number {
  return applyComparison('<', a, b) ? -1 : applyComparison('<', b, a) ? 1 : 0
}

function zipLists(...given: ExpressionValue[]): ExpressionValue[] {
  const lists = given.map((one) => requireList(one, 'zip'))
  const length = Math.min(...lists.map((one) => one.length))
  return Number.isFinite(length)
    ? Array.from({ length }, (_, at) => lists.map((one) => one[at] as ExpressionValue))
    : []
}

/** Longest list that `range` makes. */
const MAX_RANGE_LENGTH = 100_000

function makeRange(...given: ExpressionValue[]): ExpressionValue[] {
  const [a = 0, b, step = 1] = given.map((one) => requireNumber(one, 'range'))
  const [from, to] = b === undefined ? [0, a] : [a, b]
  const length = Math.max(0, Math.ceil((to - from) / step))
  if (length <= MAX_RANGE_LENGTH && [from, to, step].every(Number.isInteger)) {
    return Array.from({ length }, (_, at) => from + at * step)
  }
  throw new RangeError(
    `range: needs whole numbers, and can make at most ${MAX_RANGE_LENGTH} of them`,
  )
}

function dateFromTimestamp(
  is: 'datetime' | 'date',
  seconds: ExpressionValue | undefined,
): ExpressionDate {
  const at = requireNumber(seconds, 'fromtimestamp') * 1_000
  if (Math.abs(at) <= 8.64e15) return new ExpressionDate(is, Math.round(at))
  throw new RangeError('fromtimestamp: the time is out of range')
}

function dateMethod(
  name: string,
  how: (own: ExpressionDate, ...given: ExpressionValue[]) => ExpressionValue,
): ExpressionFunction {
  return (own, ...given) => {
    if (own instanceof ExpressionDate) return how(own, ...given)
    throw new TypeError(`${name} is a method of a date`)
  }
}

function textMethod(
  how: (own: string, ...given: ExpressionValue[]) => ExpressionValue,
): ExpressionFunction {
  return (own, ...given) => how(requireText(own ?? null, 'a method'), ...given)
}

function stripText(
  own: string,
  given: ExpressionValue | undefined,
  ends: 'both' | 'left' | 'right',
): string {
  const any = given === undefined ? ' \t\n\r\f\v' : requireText(given, 'strip')
  let [from, to] = [0, own.length]
  while (ends !== 'right' && from < to && any.includes(own[from] as string)) from++
  while (ends !== 'left' && to > from && any.includes(own[to - 1] as string)) to--
  return own.slice(from, to)
}

/** Methods of texts, `x.upper()`, and of dates, `dt.datetime.now().strftime('%Y')`. */
export const EXPRESSION_METHODS: ReadonlyMap<string, ExpressionFunction> = new Map<
  string,
  ExpressionFunction
>([
  ['upper', textMethod((own) => own.toUpperCase())],
  ['lower', textMethod((own) => own.toLowerCase())],
  [
    'title',
    textMethod((own) =>
      own.toLowerCase().replace(/[\p{L}]+/gu, (w) => w.charAt(0).toUpperCase() + w.slice(1)),
    ),
  ],
  ['capitalize', textMethod((own) => own.charAt(0).toUpperCase() + own.slice(1).toLowerCase())],
  ['strip', textMethod((own, any) => stripText(own, any, 'both'))],
  ['lstrip', textMethod((own, any) => stripText(own, any, 'left'))],
  ['rstrip', textMethod((own, any) => stripText(own, any, 'right'))],
  [
    'replace',
    textMethod((own, from, to) =>
      replaceAllOf(own, requireText(from, 'replace'), requireText(to, 'replace')),
    ),
  ],
  [
    'split',
    textMethod((own, by) => (by === undefined ? splitWords(own) : own.split(requireNonEmpty(by)))),
  ],
  ['join', textMethod((own, of) => joinTexts(own, requireList(of, 'join')))],
  ['startswith', textMethod((own, what) => own.startsWith(requireText(what, 'startswith')))],
  ['endswith', textMethod((own, what) => own.endsWith(requireText(what, 'endswith')))],
  ['find', textMethod((own, what) => own.indexOf(requireText(what, 'find')))],
  ['rfind', textMethod((own, what) => own.lastIndexOf(requireText(what, 'rfind')))],
  ['count', textMethod((own, what) => own.split(requireNonEmpty(what)).length - 1)],
  ['zfill', textMethod((own, to) => fillWithZeros(own, requireWidth(to, 'zfill')))],
  [
    'ljust',
    textMethod((own, to, by = ' ') => own.padEnd(requireWidth(to, 'ljust'), requireNonEmpty(by))),
  ],
  [
    'rjust',
    textMethod((own, to, by = ' ') => own.padStart(requireWidth(to, 'rjust'), requireNonEmpty(by))),
  ],
  ['isdigit', textMethod((own) => /^\d+$/.test(own))],
  ['strftime', dateMethod('strftime', (own, form) => own.format(requireText(form, 'strftime')))],
  [
    'isoformat',
    dateMethod('isoformat', (own, between = 'T') => own.toText(requireText(between, 'isoformat'))),
  ],
  ['timestamp', dateMethod('timestamp', (own) => own.timeMs / 1_000)],
  ['date', dateMethod('date', (own) => new ExpressionDate('date', own.timeMs))],
  ['weekday', dateMethod('weekday', (own) => (Number(own.format('%w')) + 6) % 7)],
  ['isalpha', textMethod((own) => /^\p{L}+$/u.test(own))],
  [
    'removeprefix',
    textMethod((own, it) =>
      own.startsWith(requireText(it, 'removeprefix')) ? own.slice(requireText(it, '').length) : own,
    ),
  ],
  [
    'removesuffix',
    textMethod((own, it) =>
      requireText(it, 'removesuffix') !== '' && own.endsWith(requireText(it, ''))
        ? own.slice(0, -requireText(it, '').length)
        : own,
    ),
  ],
])

/** The zeros are put behind the sign. */
function fillWithZeros(own: string, to: number): string {
  const sign = /^[+-]/.exec(own)?.[0] ?? ''
  return sign + own.slice(sign.length).padStart(to - sign.length, '0')
}

function splitWords(own: string): string[] {
  return own.trim() === '' ? [] : own.trim().split(/\s+/)
}

function requireNonEmpty(value: ExpressionValue | undefined): string {
  const got = requireText(value, 'a method')
  if (got !== '') return got
  throw new TypeError('the separator must not be empty')
}

function replaceAllOf(own: string, from: string, to: string): string {
  if (from === '') throw new TypeError('replace: the text to replace must not be empty')
  const count = own.split(from).length - 1
  if (own.length + count * (to.length - from.length) > MAX_TEXT_LENGTH)
    throw new RangeError('replace: the text is too long')
  return own.replaceAll(from, () => to)
}

function joinTexts(own: string, parts: readonly ExpressionValue[]): string {
  const texts = parts.map((one) => requireText(one, 'join'))
  const size = texts.reduce((sum, one) => sum + one.length + own.length, -own.length)
  if (size > MAX_TEXT_LENGTH) throw new RangeError('join: the text is too long')
  return texts.join(own)
}
