/** Parses and checks filters: conditions on tasks as people write them (`exit_status != 0`, `part:1`). Pure. */
import type { RawBuilder } from 'kysely'
import { describe } from '../../core/describe.ts'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { createDict } from '../../core/null-prototype.ts'
import type { Task } from '../model/task.ts'
import { COLUMN_KINDS, TASK_COLUMNS, TASK_STATES, type TaskState } from '../model/task-columns.ts'
import { toJson } from '../text/exact-json.ts'
import { parseTagFilter } from '../text/tags.ts'
import { parseTaskDuration, parseTime } from '../text/units.ts'
import { isDurationColumn, isTimeColumn } from './row.ts'

export type FilterOperator = '==' | '!=' | '>' | '>=' | '<' | '<=' | '~'
export type FilterValue = string | number | null

export interface FilterCondition {
  /** A column, or `state`. */
  readonly field: string
  readonly operator: FilterOperator
  readonly value: FilterValue
}

/**
 * A task matches if all conditions hold. A condition that is a text has times as people write them: `duration > 30` and `30s`
 * are seconds, `submit_time >= 2026-01-31` is midnight in the zone of this machine, and a number there is seconds since 1970. A
 * condition that is an object has the values of `Task`: milliseconds.
 */
export interface TaskFilter {
  /** `exit_status != 0`, `args ~ 'convert .*'`, `duration > 30s`, `submit_time >= 2026-01-31`, `client_id == null`. */
  readonly where?: readonly (string | FilterCondition)[]
  /** `key`, or `key:value`. */
  readonly tags?: readonly string[]
  readonly group?: number
  /** `completed`: has an outcome; `remaining`: has none; `retries`: second and later attempts. */
  readonly only?: readonly ('failed' | 'succeeded' | 'completed' | 'remaining' | 'retries')[]
}

/** A filter after it was parsed. */
export interface ParsedTaskFilter {
  /** Conditions that the other fields do not cover. The database checks them. */
  readonly conditions: readonly FilterCondition[]
  /** States that may match. Without any, no task matches. */
  readonly states: ReadonlySet<TaskState>
  readonly group: number | undefined
  readonly attemptConditions: readonly FilterCondition[]
  /** Each with the JSON of the values that match; without `values`, any value matches. */
  readonly tags: readonly { readonly key: string; readonly values?: readonly string[] }[]
  /** Checks the regular expressions, which no database does: they are JavaScript's, on every engine. */
  readonly matches: ((task: Task) => boolean) | undefined
  /** A condition in SQL that a filter cannot express. */
  readonly extraSql?: RawBuilder<boolean> | undefined
}

const CONDITION_FORM = /^\s*([a-z_]+)\s*(==|!=|>=|<=|>|<|~|=)\s*(.*?)\s*$/s
const MAX_PATTERN_LENGTH = 1_000

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseTaskFilter({
  where = [],
  tags = [],
  group,
  only = [],
}: TaskFilter): ParsedTaskFilter {
  if (group !== undefined && !Number.isSafeInteger(group)) {
    throw filterError(`group must be a whole number, got ${describe(group)}`)
  }
  const all = where
    .map((one) => (typeof one === 'string' ? parseCondition(one) : one))
    .map(checkCondition)
  const ONLY: Readonly<Record<string, FilterCondition>> = createDict({
    failed: { field: 'exit_status', operator: '!=', value: 0 },
    succeeded: { field: 'exit_status', operator: '==', value: 0 },
    completed: { field: 'completion_time', operator: '!=', value: null },
    remaining: { field: 'completion_time', operator: '==', value: null },
    retries: { field: 'attempt', operator: '>', value: 1 },
  })
  for (const name of only) all.push(ONLY[name] ?? throwUnknownOnly(name, Object.keys(ONLY)))
  let states = new Set(TASK_STATES)
  const conditions: FilterCondition[] = []
  const attempts: FilterCondition[] = []
  const patterns: { name: keyof Task; pattern: RegExp }[] = []
  for (const one of all) {
    const fitting = statesOfCondition(one)
    if (fitting) states = new Set([...states].filter((state) => fitting.includes(state)))
    else if (one.operator === '~') patterns.push(compilePattern(one))
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
    attemptConditions: attempts,
    tags: tags.map(parseFilterTag),
    matches: patterns.length > 0 ? matches : undefined,
  }
}

/** Reads `field operator value`. @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseCondition(text: string): FilterCondition {
  const [, field, sign, value] = CONDITION_FORM.exec(text) ?? []
  if (field === undefined || sign === undefined || value === undefined) {
    throw filterError(
      `a condition must be like 'exit_status != 0', with one of == != > >= < <= ~, got ${describe(text)}`,
    )
  }
  const quoted = /^(['"])(.*)\1$/s.exec(value)
  const operator = (sign === '=' ? '==' : sign) as FilterOperator
  if (quoted) return { field, operator, value: quoted[2] as string }
  return { field, operator, value: value === 'null' && operator !== '~' ? null : value }
}

/** The same condition with a value that fits its column. */
function checkCondition({ field, operator, value }: FilterCondition): FilterCondition {
  if (field === 'state') {
    if (!TASK_STATES.includes(value as TaskState) || !['==', '!='].includes(operator)) {
      throw filterError(
        `state can be == or != one of ${TASK_STATES.join(', ')}, got ${operator} ${describe(value)}`,
      )
    }
    return { field, operator, value }
  }
  const kind = Object.hasOwn(COLUMN_KINDS, field)
    ? COLUMN_KINDS[field as keyof typeof COLUMN_KINDS]
    : undefined
  if (!kind || field === 'seq') {
    throw filterError(`no field '${field}'; there are ${TASK_COLUMNS.slice(1).join(', ')}, state`)
  }
  if (value === null) {
    if (operator === '==' || operator === '!=') return { field, operator, value }
    throw filterError(`null can be compared only with == and !=, got ${field} ${operator} null`)
  }
  if (kind === 'text' || operator === '~') return { field, operator, value: String(value) }
  return { field, operator, value: parseColumnNumber(field, value) }
}

function parseColumnNumber(field: string, value: string | number): number {
  const text = String(value)
  if (field === 'retried' && /^(true|false)$/i.test(text))
    return text.toLowerCase() === 'true' ? 1 : 0
  const number = text.trim() === '' ? Number.NaN : Number(text)
  // A number is a value of `Task`, in milliseconds; a text is what a person wrote.
  const isWritten = typeof value === 'string'
  if (isTimeColumn(field) && isWritten)
    return Number.isFinite(number) ? parseEpochSeconds(field, number) : parseColumnTime(field, text)
  if (isDurationColumn(field) && isWritten)
    return Number.isFinite(number) ? number * 1_000 : parseColumnDuration(field, text)
  if (Number.isFinite(number)) return number
  throw filterError(`${field} must be compared with a number, got ${describe(value)}`)
}

/** Seconds until the year 5138. A larger number is taken for milliseconds, and refused. */
const MAX_EPOCH_SECONDS = 1e11

function parseEpochSeconds(field: string, seconds: number): number {
  if (Math.abs(seconds) < MAX_EPOCH_SECONDS) return seconds * 1_000
  throw filterError(
    `${field} as a number must be seconds since 1970, got ${seconds}: are these milliseconds?`,
  )
}

function parseColumnTime(field: string, text: string): number {
  try {
    return parseTime(text)
  } catch (error) {
    throw filterError(`${field}: ${describeError(error)}`)
  }
}

function parseColumnDuration(field: string, text: string): number {
  try {
    return parseTaskDuration(text)
  } catch (error) {
    throw filterError(`${field}: ${describeError(error)}`)
  }
}

/** The states in which a condition holds, if the state alone decides it. The kept counts can then answer it. */
function statesOfCondition({
  field,
  operator,
  value,
}: FilterCondition): readonly TaskState[] | undefined {
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

function compilePattern({ field, value }: FilterCondition): { name: keyof Task; pattern: RegExp } {
  const text = String(value)
  if (text.length > MAX_PATTERN_LENGTH) {
    throw filterError(
      `a pattern can have at most ${MAX_PATTERN_LENGTH} characters, got ${text.length}`,
    )
  }
  try {
    const name = field.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
    return { name: name as keyof Task, pattern: new RegExp(text, 'u') }
  } catch (error) {
    throw filterError(`${field} ~ ${describe(text)}: ${(error as Error).message}`)
  }
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
function parseFilterTag(text: string): { key: string; values?: readonly string[] } {
  try {
    return parseTagFilter(text)
  } catch (error) {
    throw filterError(describeError(error))
  }
}

function throwUnknownOnly(name: string, known: readonly string[]): never {
  throw filterError(`only must be a list of ${known.join(', ')}, got ${describe(name)}`)
}

function filterError(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `filter: ${message}`)
}
