/** Which tasks: conditions as people write them (`exit_status != 0`, `part:1`), read and checked. Pure. */
import type { RawBuilder } from 'kysely'
import { dict } from '../../core/dict.ts'
import { describe, ManyhostError } from '../../core/errors.ts'
import { show } from '../../core/options.ts'
import { toJson } from '../json.ts'
import { parseTagFilter } from '../tags.ts'
import type { Task } from '../task.ts'
import { readTime, taskDuration } from '../units.ts'
import { isSpan, isTime } from './row.ts'
import { COLUMNS, KINDS, TASK_STATES, type TaskState } from './tables.ts'

export type Operator = '==' | '!=' | '>' | '>=' | '<' | '<=' | '~'
export type Value = string | number | null

export interface Condition {
  /** A column, or `state`. */
  readonly field: string
  readonly operator: Operator
  readonly value: Value
}

/**
 * All that is said must hold. A text has times as people write them: `duration > 30` and `30s` are seconds,
 * `submit_time >= 2026-01-31` is midnight of this machine's zone, and a number there is seconds since 1970. An object has
 * the values of `Task`: milliseconds.
 */
export interface TaskFilter {
  /** `exit_status != 0`, `args ~ 'convert .*'`, `duration > 30s`, `submit_time >= 2026-01-31`, `client_id == null`. */
  readonly where?: readonly (string | Condition)[]
  /** `key`, or `key:value`. */
  readonly tags?: readonly string[]
  readonly group?: number
  /** `completed`: has an outcome; `remaining`: has none; `retries`: second and later attempts. */
  readonly only?: readonly ('failed' | 'succeeded' | 'completed' | 'remaining' | 'retries')[]
}

/** A filter, read. */
export interface Wanted {
  /** What is not said by the rest, for the database. */
  readonly conditions: readonly Condition[]
  /** States that may fit; none: nothing does. */
  readonly states: ReadonlySet<TaskState>
  readonly group: number | undefined
  readonly attempts: readonly Condition[]
  /** With the JSON of the values that fit; any where there is none. */
  readonly tags: readonly { readonly key: string; readonly values?: readonly string[] }[]
  /** What the database cannot decide, as regular expressions: they are JavaScript's, on every engine. */
  readonly matches: ((task: Task) => boolean) | undefined
  /** What no condition can say, in SQL. */
  readonly also?: RawBuilder<boolean> | undefined
}

const FORM = /^\s*([a-z_]+)\s*(==|!=|>=|<=|>|<|~|=)\s*(.*?)\s*$/s
const LONGEST_PATTERN = 1_000

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function wanted({ where = [], tags = [], group, only = [] }: TaskFilter): Wanted {
  if (group !== undefined && !Number.isSafeInteger(group)) {
    throw wrong(`group must be a whole number, got ${show(group)}`)
  }
  const all = where.map((one) => (typeof one === 'string' ? condition(one) : one)).map(checked)
  const ONLY: Readonly<Record<string, Condition>> = dict({
    failed: { field: 'exit_status', operator: '!=', value: 0 },
    succeeded: { field: 'exit_status', operator: '==', value: 0 },
    completed: { field: 'completion_time', operator: '!=', value: null },
    remaining: { field: 'completion_time', operator: '==', value: null },
    retries: { field: 'attempt', operator: '>', value: 1 },
  })
  for (const name of only) all.push(ONLY[name] ?? unknownOnly(name, Object.keys(ONLY)))
  let states = new Set(TASK_STATES)
  const conditions: Condition[] = []
  const attempts: Condition[] = []
  const patterns: { name: keyof Task; pattern: RegExp }[] = []
  for (const one of all) {
    const fitting = statesOf(one)
    if (fitting) states = new Set([...states].filter((state) => fitting.includes(state)))
    else if (one.operator === '~') patterns.push(pattern(one))
    else if (one.field === 'attempt') attempts.push(one)
    else conditions.push(one)
  }
  const matches = (task: Task): boolean =>
    patterns.every(({ name, pattern }) => {
      const value = task[name]
      return (
        value !== null && pattern.test(typeof value === 'object' ? toJson(value) : String(value))
      )
    })
  return {
    conditions,
    states,
    group,
    attempts,
    tags: tags.map(tagFilter),
    matches: patterns.length > 0 ? matches : undefined,
  }
}

/** Reads `field operator value`. @throws ManyhostError MANYHOST_INVALID_OPTION */
export function condition(text: string): Condition {
  const [, field, sign, value] = FORM.exec(text) ?? []
  if (field === undefined || sign === undefined || value === undefined) {
    throw wrong(
      `a condition is like 'exit_status != 0', with one of == != > >= < <= ~, got ${show(text)}`,
    )
  }
  const quoted = /^(['"])(.*)\1$/s.exec(value)
  const operator = (sign === '=' ? '==' : sign) as Operator
  if (quoted) return { field, operator, value: quoted[2] as string }
  return { field, operator, value: value === 'null' && operator !== '~' ? null : value }
}

/** The same condition with a value that fits its column. */
function checked({ field, operator, value }: Condition): Condition {
  if (field === 'state') {
    if (!TASK_STATES.includes(value as TaskState) || !['==', '!='].includes(operator)) {
      throw wrong(
        `state is == or != one of ${TASK_STATES.join(', ')}, got ${operator} ${show(value)}`,
      )
    }
    return { field, operator, value }
  }
  const kind = Object.hasOwn(KINDS, field) ? KINDS[field as keyof typeof KINDS] : undefined
  if (!kind || field === 'seq') {
    throw wrong(`no field '${field}'; there are ${COLUMNS.slice(1).join(', ')}, state`)
  }
  if (value === null) {
    if (operator === '==' || operator === '!=') return { field, operator, value }
    throw wrong(`null can be compared with == and != alone, got ${field} ${operator} null`)
  }
  if (kind === 'text' || operator === '~') return { field, operator, value: String(value) }
  return { field, operator, value: numeric(field, value) }
}

function numeric(field: string, value: string | number): number {
  const text = String(value)
  if (field === 'retried' && /^(true|false)$/i.test(text))
    return text.toLowerCase() === 'true' ? 1 : 0
  const number = text.trim() === '' ? Number.NaN : Number(text)
  // A number is a value of `Task`, in milliseconds; a text is what a person wrote.
  const isWritten = typeof value === 'string'
  if (isTime(field) && isWritten)
    return Number.isFinite(number) ? since(field, number) : at(field, text)
  if (isSpan(field) && isWritten)
    return Number.isFinite(number) ? number * 1_000 : span(field, text)
  if (Number.isFinite(number)) return number
  throw wrong(`${field} is a number, got ${show(value)}`)
}

/** The year 5138 is far; who means 1970 and some weeks writes the date. */
const LATEST = 1e11

function since(field: string, seconds: number): number {
  if (Math.abs(seconds) < LATEST) return seconds * 1_000
  throw wrong(`${field} as a number is seconds since 1970, got ${seconds}: are these milliseconds?`)
}

function at(field: string, text: string): number {
  try {
    return readTime(text)
  } catch (error) {
    throw wrong(`${field}: ${describe(error)}`)
  }
}

function span(field: string, text: string): number {
  try {
    return taskDuration(text)
  } catch (error) {
    throw wrong(`${field}: ${describe(error)}`)
  }
}

/** The states in which a condition holds, where it says nothing else: such tasks are counted already. */
function statesOf({ field, operator, value }: Condition): readonly TaskState[] | undefined {
  const but = (...out: TaskState[]): TaskState[] => TASK_STATES.filter((one) => !out.includes(one))
  const isEqual = operator === '=='
  if (operator !== '==' && operator !== '!=') return undefined
  if (field === 'state') {
    return isEqual ? [value as TaskState] : but(value as TaskState)
  }
  if (field === 'completion_time' || field === 'exit_status') {
    if (value === null) return isEqual ? ['new', 'scheduled'] : but('new', 'scheduled')
    if (field === 'exit_status' && value === 0) {
      return isEqual ? ['succeeded'] : ['failed', 'retried', 'cancelled']
    }
  }
  if (field === 'retried' && (value === 0 || value === 1)) {
    return isEqual === (value === 1) ? ['retried'] : but('retried')
  }
  return undefined
}

function pattern({ field, value }: Condition): { name: keyof Task; pattern: RegExp } {
  const text = String(value)
  if (text.length > LONGEST_PATTERN) {
    throw wrong(`a pattern has at most ${LONGEST_PATTERN} characters, got ${text.length}`)
  }
  try {
    const name = field.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
    return { name: name as keyof Task, pattern: new RegExp(text, 'u') }
  } catch (error) {
    throw wrong(`${field} ~ ${show(text)}: ${(error as Error).message}`)
  }
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
function tagFilter(text: string): { key: string; values?: readonly string[] } {
  try {
    return parseTagFilter(text)
  } catch (error) {
    throw wrong(describe(error))
  }
}

function unknownOnly(name: string, known: readonly string[]): never {
  throw wrong(`only is a list of ${known.join(', ')}, got ${show(name)}`)
}

function wrong(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `filter: ${message}`)
}
