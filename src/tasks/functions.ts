/** What an expression in a template may call: names and methods, as Python programmers know them. */
import { posix } from 'node:path'
import { wallClock } from '../core/time.ts'
import { Moment } from './moment.ts'
import { binary, comparison, describeValue, isTrue, toText } from './operators.ts'

/** A bigint is a whole number beyond 2^53. */
export type Value = string | number | bigint | boolean | null | Moment | Value[]

type Callable = (...given: Value[]) => Value

/** Longest text that padding may make. */
const WIDEST = 1_048_576

function text(value: Value | undefined, name: string): string {
  if (typeof value === 'string') return value
  // The line `007` is a number to arithmetic, and as text to paths and methods.
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  throw new TypeError(`${name} wants a text, got ${describeValue(value)}`)
}

function number(value: Value | undefined, name: string): number {
  const got = typeof value === 'string' && value.trim() !== '' ? Number(value) : value
  if (typeof got === 'number' && Number.isFinite(got)) return got
  if (typeof got === 'boolean' || typeof got === 'bigint') return Number(got)
  throw new TypeError(`${name} wants a number, got ${describeValue(value)}`)
}

function list(value: Value | undefined, name: string): Value[] {
  if (Array.isArray(value)) return value
  if (typeof value === 'string') return [...value]
  throw new TypeError(`${name} wants a list, got ${describeValue(value)}`)
}

function width(value: Value | undefined, name: string): number {
  const got = number(value, name)
  if (got <= WIDEST) return Math.max(0, Math.trunc(got))
  throw new RangeError(`${name}: at most ${WIDEST}`)
}

/** A function of numbers whose result must be one, too. */
function arithmetic(name: string, how: (...given: number[]) => number): Callable {
  return (...given) => {
    const result = how(...given.map((one) => number(one, name)))
    if (Number.isFinite(result)) return result
    throw new RangeError(`${name}: the result is no finite number`)
  }
}

function ofText(name: string, how: (given: string) => Value): Callable {
  return (given) => how(text(given, name))
}

/** Half goes to the even one, as in Python. */
function round(value: number, digits = 0): number {
  const factor = 10 ** Math.trunc(digits)
  const scaled = value * factor
  const down = Math.floor(scaled)
  const isHalf = scaled - down === 0.5
  return (isHalf ? (down % 2 === 0 ? down : down + 1) : Math.round(scaled)) / factor
}

/** As Python has it: what follows the last slash, and what was before it. */
function parted(path: string): [head: string, tail: string] {
  const at = path.lastIndexOf('/') + 1
  let end = at
  while (path[end - 1] === '/') end--
  return [path.slice(0, end || at), path.slice(at)]
}

/** With its dot; a folder (`a.d/`) has none, nor has `.profile`. */
export function extensionOf(path: string): string {
  return path.endsWith('/') ? '' : posix.extname(path)
}

const PATHS: Record<string, Callable> = {
  basename: ofText('basename', (given) => parted(given)[1]),
  dirname: ofText('dirname', (given) => parted(given)[0]),
  normpath: ofText('normpath', (given) => posix.normalize(given).replace(/(?<=.)\/$/, '')),
  isabs: ofText('isabs', (given) => posix.isAbsolute(given)),
  join: (...given) => {
    const parts = given.map((one) => text(one, 'join'))
    const root = parts.findLastIndex((one) => one.startsWith('/'))
    return parts
      .slice(Math.max(0, root))
      .reduce((a, b) => (a === '' || a.endsWith('/') ? a + b : `${a}/${b}`), '')
  },
  split: ofText('split', parted),
  splitext: ofText('splitext', (given) => {
    const extension = extensionOf(given)
    return [given.slice(0, given.length - extension.length), extension]
  }),
}

const MATH: Record<string, Callable> = {
  sqrt: arithmetic('sqrt', Math.sqrt),
  exp: arithmetic('exp', Math.exp),
  log: arithmetic('log', (x, base) =>
    base === undefined ? Math.log(x) : Math.log(x) / Math.log(base),
  ),
  log2: arithmetic('log2', Math.log2),
  log10: arithmetic('log10', Math.log10),
  sin: arithmetic('sin', Math.sin),
  cos: arithmetic('cos', Math.cos),
  tan: arithmetic('tan', Math.tan),
  asin: arithmetic('asin', Math.asin),
  acos: arithmetic('acos', Math.acos),
  atan: arithmetic('atan', Math.atan),
  atan2: arithmetic('atan2', Math.atan2),
  hypot: arithmetic('hypot', Math.hypot),
  floor: arithmetic('floor', Math.floor),
  ceil: arithmetic('ceil', Math.ceil),
  trunc: arithmetic('trunc', Math.trunc),
  fabs: arithmetic('fabs', Math.abs),
  pow: arithmetic('pow', (x, y) => x ** y),
  radians: arithmetic('radians', (x) => (x * Math.PI) / 180),
  degrees: arithmetic('degrees', (x) => (x * 180) / Math.PI),
}

/** `name` or `table.name`, to a function or a constant. */
export const NAMES: ReadonlyMap<string, Callable | Exclude<Value, null>> = new Map([
  ['int', whole],
  ['float', arithmetic('float', (x) => x)],
  ['str', (given: Value) => toText(given ?? '')],
  ['bool', (given: Value) => isTrue(given ?? false)],
  ['len', (given: Value) => (Array.isArray(given) ? given.length : text(given, 'len').length)],
  ['abs', arithmetic('abs', Math.abs)],
  ['min', ofAll('min', Math.min)],
  ['max', ofAll('max', Math.max)],
  ['sum', (given: Value) => list(given, 'sum').reduce((a, b) => binary('+', a, b), 0)],
  ['any', (given: Value) => list(given, 'any').some(isTrue)],
  ['all', (given: Value) => list(given, 'all').every(isTrue)],
  ['list', (given: Value) => [...list(given, 'list')]],
  ['sorted', (given: Value) => list(given, 'sorted').toSorted(ordered)],
  ['reversed', (given: Value) => list(given, 'reversed').toReversed()],
  ['enumerate', (given: Value) => list(given, 'enumerate').map((one, index) => [index, one])],
  ['zip', zipped],
  ['range', range],
  ['round', arithmetic('round', round)],
  ['pow', arithmetic('pow', (x, y) => x ** y)],
  ['ord', ofText('ord', (given) => given.codePointAt(0) ?? 0)],
  ['chr', (given: Value) => String.fromCodePoint(number(given, 'chr'))],
  ['math.pi', Math.PI],
  ['math.e', Math.E],
  ...Object.entries(MATH).map(([name, how]) => [`math.${name}`, how] as const),
  ...Object.entries(PATHS).map(([name, how]) => [`os.path.${name}`, how] as const),
  ...Object.entries(PATHS).map(([name, how]) => [`path.${name}`, how] as const),
  ['os.sep', '/'],
  ['dt.now', () => new Date(wallClock()).toISOString()],
  ['dt.today', () => new Moment('date', wallClock()).text()],
  ['dt.datetime.now', () => new Moment('datetime', wallClock())],
  ['dt.datetime.today', () => new Moment('datetime', wallClock())],
  ['dt.date.today', () => new Moment('date', wallClock())],
  ['dt.datetime.fromtimestamp', (given) => moment('datetime', given)],
  ['dt.date.fromtimestamp', (given) => moment('date', given)],
  ['dt.timestamp', () => wallClock() / 1_000],
] as readonly (readonly [string, Callable | Exclude<Value, null>])[])

/** A text that is a whole number is that number, however long. */
function whole(value: Value | undefined): Value {
  if (typeof value === 'bigint') return value
  const digits = typeof value === 'string' && /^\s*([+-]?\d{1,300})\s*$/.exec(value)?.[1]
  if (digits && !Number.isSafeInteger(Number(digits))) return BigInt(digits.replace('+', ''))
  return arithmetic('int', Math.trunc)(value ?? null)
}

/** Of what is given, or of one list. */
function ofAll(name: string, how: (...given: number[]) => number): Callable {
  const all = arithmetic(name, how)
  return (...given) => {
    const [first] = given
    return all(...(given.length === 1 && Array.isArray(first) ? first : given))
  }
}

function ordered(a: Value, b: Value): number {
  return comparison('<', a, b) ? -1 : comparison('<', b, a) ? 1 : 0
}

function zipped(...given: Value[]): Value[] {
  const lists = given.map((one) => list(one, 'zip'))
  const length = Math.min(...lists.map((one) => one.length))
  return Number.isFinite(length)
    ? Array.from({ length }, (_, at) => lists.map((one) => one[at] as Value))
    : []
}

/** Longest list that `range` makes. */
const LONGEST_RANGE = 100_000

function range(...given: Value[]): Value[] {
  const [a = 0, b, step = 1] = given.map((one) => number(one, 'range'))
  const [from, to] = b === undefined ? [0, a] : [a, b]
  const length = Math.max(0, Math.ceil((to - from) / step))
  if (length <= LONGEST_RANGE && [from, to, step].every(Number.isInteger)) {
    return Array.from({ length }, (_, at) => from + at * step)
  }
  throw new RangeError(`range: whole numbers, at most ${LONGEST_RANGE} of them`)
}

function moment(is: 'datetime' | 'date', seconds: Value | undefined): Moment {
  const at = number(seconds, 'fromtimestamp') * 1_000
  if (Math.abs(at) <= 8.64e15) return new Moment(is, Math.round(at))
  throw new RangeError('fromtimestamp: no such time')
}

function ofMoment(name: string, how: (own: Moment, ...given: Value[]) => Value): Callable {
  return (own, ...given) => {
    if (own instanceof Moment) return how(own, ...given)
    throw new TypeError(`${name} is a method of a date`)
  }
}

function method(how: (own: string, ...given: Value[]) => Value): Callable {
  return (own, ...given) => how(text(own ?? null, 'a method'), ...given)
}

function strip(own: string, given: Value | undefined, ends: 'both' | 'left' | 'right'): string {
  const any = given === undefined ? ' \t\n\r\f\v' : text(given, 'strip')
  let [from, to] = [0, own.length]
  while (ends !== 'right' && from < to && any.includes(own[from] as string)) from++
  while (ends !== 'left' && to > from && any.includes(own[to - 1] as string)) to--
  return own.slice(from, to)
}

/** Methods of texts, `x.upper()`, and of dates, `dt.datetime.now().strftime('%Y')`. */
export const METHODS: ReadonlyMap<string, Callable> = new Map<string, Callable>([
  ['upper', method((own) => own.toUpperCase())],
  ['lower', method((own) => own.toLowerCase())],
  [
    'title',
    method((own) =>
      own.toLowerCase().replace(/[\p{L}]+/gu, (w) => w.charAt(0).toUpperCase() + w.slice(1)),
    ),
  ],
  ['capitalize', method((own) => own.charAt(0).toUpperCase() + own.slice(1).toLowerCase())],
  ['strip', method((own, any) => strip(own, any, 'both'))],
  ['lstrip', method((own, any) => strip(own, any, 'left'))],
  ['rstrip', method((own, any) => strip(own, any, 'right'))],
  ['replace', method((own, from, to) => replaced(own, text(from, 'replace'), text(to, 'replace')))],
  ['split', method((own, by) => (by === undefined ? words(own) : own.split(nonEmpty(by))))],
  ['join', method((own, of) => joined(own, list(of, 'join')))],
  ['startswith', method((own, what) => own.startsWith(text(what, 'startswith')))],
  ['endswith', method((own, what) => own.endsWith(text(what, 'endswith')))],
  ['find', method((own, what) => own.indexOf(text(what, 'find')))],
  ['rfind', method((own, what) => own.lastIndexOf(text(what, 'rfind')))],
  ['count', method((own, what) => own.split(nonEmpty(what)).length - 1)],
  ['zfill', method((own, to) => filled(own, width(to, 'zfill')))],
  ['ljust', method((own, to, by = ' ') => own.padEnd(width(to, 'ljust'), nonEmpty(by)))],
  ['rjust', method((own, to, by = ' ') => own.padStart(width(to, 'rjust'), nonEmpty(by)))],
  ['isdigit', method((own) => /^\d+$/.test(own))],
  ['strftime', ofMoment('strftime', (own, form) => own.format(text(form, 'strftime')))],
  [
    'isoformat',
    ofMoment('isoformat', (own, between = 'T') => own.text(text(between, 'isoformat'))),
  ],
  ['timestamp', ofMoment('timestamp', (own) => own.at / 1_000)],
  ['date', ofMoment('date', (own) => new Moment('date', own.at))],
  ['weekday', ofMoment('weekday', (own) => (Number(own.format('%w')) + 6) % 7)],
  ['isalpha', method((own) => /^\p{L}+$/u.test(own))],
  [
    'removeprefix',
    method((own, it) =>
      own.startsWith(text(it, 'removeprefix')) ? own.slice(text(it, '').length) : own,
    ),
  ],
  [
    'removesuffix',
    method((own, it) =>
      text(it, 'removesuffix') !== '' && own.endsWith(text(it, ''))
        ? own.slice(0, -text(it, '').length)
        : own,
    ),
  ],
])

/** Zeros go behind the sign. */
function filled(own: string, to: number): string {
  const sign = /^[+-]/.exec(own)?.[0] ?? ''
  return sign + own.slice(sign.length).padStart(to - sign.length, '0')
}

function words(own: string): string[] {
  return own.trim() === '' ? [] : own.trim().split(/\s+/)
}

function nonEmpty(value: Value | undefined): string {
  const got = text(value, 'a method')
  if (got !== '') return got
  throw new TypeError('an empty text does not separate anything')
}

function replaced(own: string, from: string, to: string): string {
  if (from === '') throw new TypeError('replace wants what to replace')
  const count = own.split(from).length - 1
  if (own.length + count * (to.length - from.length) > WIDEST)
    throw new RangeError('replace: the text is too long')
  return own.replaceAll(from, () => to)
}

function joined(own: string, parts: readonly Value[]): string {
  const texts = parts.map((one) => text(one, 'join'))
  const size = texts.reduce((sum, one) => sum + one.length + own.length, -own.length)
  if (size > WIDEST) throw new RangeError('join: the text is too long')
  return texts.join(own)
}
