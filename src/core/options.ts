/** Parses options once, where they enter: one table has the range and the default of each option; others are refused. */
import { isIPv4 } from 'node:net'
import { describe } from './describe.ts'
import { ManyhostError } from './errors.ts'

/**
 * How an option is checked. `parse` answers the value that is used, or undefined if the given value is out of range.
 * `Given` is the type of what may be given, where that differs from the type of what is used.
 */
export interface Rule<T, Given = T> {
  /** The range as text, for messages and README: `a whole number from 1 up`. */
  readonly range: string
  readonly parse: (value: unknown) => T | undefined
  readonly initial: T | undefined
  /** How the option is written in a file; absent if it can only be given in code. */
  readonly form?: Form
  /** Exists for the compiler only: `OptionsOf` reads the type. Never set. */
  readonly given?: Given
}

export interface NumberForm {
  readonly is: 'number'
  readonly min: number
  readonly max?: number
  /** Whether `min` itself is refused. */
  readonly exclusiveMin?: boolean
  readonly whole?: boolean
  readonly unlimited?: boolean
  readonly unit?: 'ms' | 'bytes'
}

/** The range as data: for readers of files (`'30s'`, `'1MiB'`) and for JSON Schema. */
export type Form =
  | NumberForm
  | { readonly is: 'text'; readonly secret?: boolean; readonly pattern?: string }
  | { readonly is: 'choice'; readonly names: readonly string[] }
  | { readonly is: 'flag' }
  | { readonly is: 'list'; readonly of: Rule<unknown>; readonly minItems?: number }
  | { readonly is: 'record'; readonly of: Rule<unknown> }
  | { readonly is: 'options'; readonly rules: Rules; readonly required?: readonly string[] }
  | { readonly is: 'either'; readonly forms: readonly Form[] }
  /** A mapping with any content: a format that others define. */
  | { readonly is: 'tree' }

export function rule<T>(
  range: string,
  initial: T | undefined,
  parse: (value: unknown) => T | undefined,
  form?: Form,
): Rule<T> {
  return form ? { range, initial, parse, form } : { range, initial, parse }
}

/** A whole number from `min` to `max`. @param unlimited whether Infinity may be given, too; true if it is the default */
export function whole(
  min: number,
  initial: number,
  {
    max = Number.MAX_SAFE_INTEGER,
    unlimited = initial === Number.POSITIVE_INFINITY,
    unit,
  }: { max?: number; unlimited?: boolean; unit?: 'bytes' } = {},
): Rule<number> {
  const to = max === Number.MAX_SAFE_INTEGER ? 'up' : `to ${max}`
  const range = `a whole number from ${min} ${to}${unlimited ? ', or Infinity' : ''}`
  const parse = (value: unknown): number | undefined => {
    if (unlimited && value === Number.POSITIVE_INFINITY) return value
    const fits = Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max
    return fits ? (value as number) : undefined
  }
  return rule(range, initial, parse, {
    is: 'number',
    min,
    max,
    whole: true,
    unlimited,
    ...(unit && { unit }),
  })
}

/** Meanings of 0 that Infinity has as well. */
const ENDLESS = ['no limit', 'unlimited', 'never']

/** Milliseconds. @param zero what 0 means, where 0 may be given. If it means no limit, Infinity may be given, too */
export function milliseconds(initial: number, zero?: string): Rule<number> {
  const unlimited = zero !== undefined && ENDLESS.includes(zero)
  const range = zero ? `milliseconds from 0 up (0: ${zero})` : 'milliseconds above 0'
  const parse = (value: unknown): number | undefined => {
    if (value === Number.POSITIVE_INFINITY && unlimited) return 0
    const fits =
      typeof value === 'number' && Number.isFinite(value) && (zero ? value >= 0 : value > 0)
    return fits ? value : undefined
  }
  return rule(range, initial, parse, {
    is: 'number',
    min: 0,
    exclusiveMin: !zero,
    unlimited,
    unit: 'ms',
  })
}

export function oneOf<const T extends string>(names: readonly T[], initial: T): Rule<T> {
  return rule(
    names.map((name) => `'${name}'`).join(', '),
    initial,
    (value) => (names.includes(value as T) ? (value as T) : undefined),
    { is: 'choice', names },
  )
}

export function text(range: string, fits: (value: string) => boolean = () => true): Rule<string> {
  return rule<string>(
    range,
    undefined,
    (value) => (typeof value === 'string' && fits(value) ? value : undefined),
    { is: 'text' },
  )
}

export function flag(initial: boolean): Rule<boolean> {
  return rule(
    'true or false',
    initial,
    (value) => (typeof value === 'boolean' ? value : undefined),
    { is: 'flag' },
  )
}

export function record(): Rule<Record<string, string>> {
  const parse = (value: unknown): Record<string, string> | undefined => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
    const entries = Object.entries(value)
    return entries.every(([, one]) => typeof one === 'string' || typeof one === 'number')
      ? Object.fromEntries(entries.map(([name, one]) => [name, String(one)]))
      : undefined
  }
  return rule('an object of strings', {}, parse, { is: 'record', of: text('a string') })
}

/** An option that is an object of options. A message about one of them has its full name. */
export function nested<T, Given = T>(
  range: string,
  rules: Rules,
  required: readonly string[] = [],
  initial?: T,
): Rule<T, Given> {
  const parse = (value: unknown): T | undefined => {
    if (typeof value !== 'object' || value === null) return undefined
    const parsed = parseOptions(range, value, rules) as Record<string, unknown>
    for (const [name, one] of Object.entries(parsed)) if (one === undefined) delete parsed[name]
    return parsed as T
  }
  return { range, initial, parse, form: { is: 'options', rules, required } }
}

export function callback<F>(what: string): Rule<F> {
  return rule<F>(what, undefined, (value) =>
    typeof value === 'function' ? (value as F) : undefined,
  )
}

/** The same rule, for an option without a default: the value that is used may be undefined. */
export function optional<T, Given>(rule: Rule<T, Given>): Rule<T | undefined, Given> {
  return rule
}

export type Rules = Readonly<Record<string, Rule<unknown>>>

/** The options that are used: every one of the rules, with its default where none was given. */
export type ParsedOptions<R extends Rules> = {
  [Name in keyof R]: R[Name] extends Rule<infer T, infer _Given> ? T : never
}

/** The options that may be given. */
export type OptionsOf<R extends Rules> = {
  readonly [Name in keyof R]?: R[Name] extends Rule<infer _T, infer Given> ? Given : never
}

/** The options of one group of rules, out of parsed options of several groups. */
export function pickOptions<R extends Rules>(parsed: ParsedOptions<R>, rules: R): ParsedOptions<R> {
  const picked: Partial<ParsedOptions<R>> = {}
  for (const name of Object.keys(rules) as (keyof R)[]) picked[name] = parsed[name]
  return picked as ParsedOptions<R>
}

type Defined<T> = {
  [Name in keyof T as undefined extends T[Name] ? never : Name]: T[Name]
} & { [Name in keyof T as undefined extends T[Name] ? Name : never]?: Exclude<T[Name], undefined> }

/** The same options without those that are undefined. */
export function omitUndefined<T extends object>(options: T): Defined<T> {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined)
  return Object.fromEntries(entries) as Defined<T>
}

/**
 * Checks the given options and fills in the defaults of the others.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function parseOptions<R extends Rules>(
  where: string,
  given: unknown,
  rules: R,
): ParsedOptions<R> {
  const parsed = checkOptions(where, given === undefined ? {} : given, rules)
  for (const [name, { initial }] of Object.entries(rules)) {
    if (!(name in parsed)) parsed[name] = initial
  }
  return parsed as ParsedOptions<R>
}

/**
 * Checks the given options and fills in no defaults, so that its cost depends on the given options only.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function checkOptions(where: string, given: unknown, rules: Rules): Record<string, unknown> {
  if (typeof given !== 'object' || given === null) {
    throw invalid(`${where}: options must be an object, got ${describe(given)}`)
  }
  const parsed: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(given)) {
    const one = Object.hasOwn(rules, name) ? rules[name] : undefined
    if (!one) {
      throw invalid(`${where}: unknown option '${name}'; known: ${Object.keys(rules).join(', ')}`)
    }
    if (value === undefined) continue
    parsed[name] = checkOption(where, name, value, one)
  }
  return parsed
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function checkOption(
  where: string,
  name: string,
  value: unknown,
  one: Rule<unknown>,
): unknown {
  const result = one.parse(value)
  if (result === undefined) {
    const got =
      one.form && holdsSecret(one.form) ? 'something else (it is not shown)' : describe(value)
    throw invalid(`${where}: ${name} must be ${one.range}, got ${got}`)
  }
  return result
}

/** Whether a value of this form is or contains a secret, which no message may show. */
export function holdsSecret(form: Form): boolean {
  switch (form.is) {
    case 'text':
      return form.secret === true
    case 'list':
    case 'record':
      return form.of.form !== undefined && holdsSecret(form.of.form)
    case 'options':
      return Object.values(form.rules).some((rule) => rule.form && holdsSecret(rule.form))
    case 'either':
      return form.forms.some(holdsSecret)
    default:
      return false
  }
}

function invalid(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}

/** Whether the name or address of a host can only mean this machine. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '')
  return bare === 'localhost' || bare === '::1' || (isIPv4(bare) && bare.startsWith('127.'))
}
