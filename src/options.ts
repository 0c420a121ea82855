/** Options, parsed once at the edge: unknown ones refused, each with its range and default in one table. */
import { ManyhostError } from './errors.ts'

/** How an option is checked: answers what is used, or undefined when the value is out of range. */
export interface Rule<T> {
  /** For messages and README: `a whole number from 1 up`. */
  readonly range: string
  readonly parse: (value: unknown) => T | undefined
  readonly initial: T | undefined
}

export function rule<T>(
  range: string,
  initial: T | undefined,
  parse: (value: unknown) => T | undefined,
): Rule<T> {
  return { range, initial, parse }
}

/** A whole number; one whose default is Infinity, or that says so, may also be unlimited. */
export function whole(
  min: number,
  initial: number,
  { unlimited = initial === Number.POSITIVE_INFINITY } = {},
): Rule<number> {
  const range = `a whole number from ${min} up${unlimited ? ', or Infinity' : ''}`
  return rule(range, initial, (value) => {
    if (unlimited && value === Number.POSITIVE_INFINITY) return value
    return Number.isSafeInteger(value) && (value as number) >= min ? (value as number) : undefined
  })
}

/** Milliseconds; `zero` says what 0 means, where it may be given. */
export function milliseconds(initial: number, zero?: string): Rule<number> {
  const range = zero ? `milliseconds from 0 up (0: ${zero})` : 'milliseconds above 0'
  return rule(range, initial, (value) => {
    if (value === Number.POSITIVE_INFINITY && zero) return 0
    const fits =
      typeof value === 'number' && Number.isFinite(value) && (zero ? value >= 0 : value > 0)
    return fits ? value : undefined
  })
}

export function oneOf<const T extends string>(names: readonly T[], initial: T): Rule<T> {
  return rule(names.map((name) => `'${name}'`).join(', '), initial, (value) =>
    names.includes(value as T) ? (value as T) : undefined,
  )
}

export function text(range: string, fits: (value: string) => boolean = () => true): Rule<string> {
  return rule<string>(range, undefined, (value) =>
    typeof value === 'string' && fits(value) ? value : undefined,
  )
}

export function record(): Rule<Record<string, string>> {
  return rule('an object of strings', {}, (value) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
    const entries = Object.entries(value)
    return entries.every(([, one]) => typeof one === 'string' || typeof one === 'number')
      ? Object.fromEntries(entries.map(([name, one]) => [name, String(one)]))
      : undefined
  })
}

export function callback<F>(what: string): Rule<F> {
  return rule<F>(what, undefined, (value) =>
    typeof value === 'function' ? (value as F) : undefined,
  )
}

export type Rules = Readonly<Record<string, Rule<unknown>>>
type Parsed<R extends Rules> = {
  [Name in keyof R]: R[Name] extends Rule<infer T> ? T : never
}

/**
 * Checks `given` against the rules and fills in what is left out.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function parseOptions<R extends Rules>(where: string, given: unknown, rules: R): Parsed<R> {
  const parsed = checkOptions(where, given === undefined ? {} : given, rules)
  for (const [name, { initial }] of Object.entries(rules)) {
    if (!(name in parsed)) parsed[name] = initial
  }
  return parsed as Parsed<R>
}

/**
 * Checks what is given, and that alone: its cost is that of what is given, not of what could be.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function checkOptions(where: string, given: unknown, rules: Rules): Record<string, unknown> {
  if (typeof given !== 'object' || given === null) {
    throw invalid(`${where}: options are an object, got ${show(given)}`)
  }
  const parsed: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(given)) {
    const one = Object.hasOwn(rules, name) ? rules[name] : undefined
    if (!one) {
      throw invalid(`${where}: unknown option '${name}'; known: ${Object.keys(rules).join(', ')}`)
    }
    if (value === undefined) continue
    const result = one.parse(value)
    if (result === undefined) {
      throw invalid(`${where}: ${name} must be ${one.range}, got ${show(value)}`)
    }
    parsed[name] = result
  }
  return parsed
}

function invalid(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}

export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value)
  if (typeof value === 'function') return `a function`
  if (typeof value === 'object' && value !== null) {
    const name = value.constructor?.name
    return name && name !== 'Object' ? `a ${name}` : (safeJson(value) ?? 'an object')
  }
  return String(value)
}

function safeJson(value: object): string | undefined {
  try {
    return JSON.stringify(value).slice(0, 200)
  } catch {
    return undefined
  }
}
