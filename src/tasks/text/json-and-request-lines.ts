/** Lines that are not shell commands: a task as JSON, and a request as `POST http://calc/x {"a":1}`. */

import { checkSendableHeaders } from '../../client/request.ts'
import { describe } from '../../core/describe.ts'
import { dictFromEntries } from '../../core/null-prototype.ts'
import type { NewTask, Tags, TaskRequest } from '../model/task.ts'
import { TASK_COLUMNS } from '../model/task-columns.ts'
import { findTaskProblem } from '../model/validate-task.ts'
import { type Directives, parseDirectives } from './directives.ts'
import { toJson } from './exact-json.ts'
import { requireNoNul } from './nul.ts'
import { checkTags } from './tags.ts'
import { parseTaskDuration } from './units.ts'

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

const FIELDS = ['args', 'request', 'group', 'cores', 'memory', 'timeout', 'tag', 'tags']

/** Fields of a row of `list --json` that describe the task that was, not the one that is to be made. */
const OUTPUT_COLUMNS: ReadonlySet<string> = new Set(
  TASK_COLUMNS.filter((name) => !FIELDS.includes(name)),
)

/**
 * `{"args": "echo hi", "cores": 2, "memory": "2GB", "timeout": 30, "tag": {"site": "x"}}`; `timeout` is in
 * seconds, as in a directive. Every other field is a tag, so that a table of parameters can be used as it is. A whole row of
 * `list --json` is read, too: the fields that describe its outcome are left out.
 * @throws Error
 */
export function parseJsonTask(given: unknown): NewTask {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new Error(`a line of JSON must be an object, got ${describe(given)}`)
  }
  const fields = given as Record<string, unknown>
  const request = fields.request == null ? undefined : parseTaskRequest(fields.request)
  const args = fields.args ?? (request ? `${request.method} ${request.url}` : undefined)
  if (args !== undefined && typeof args !== 'string')
    throw new Error(`args must be a text, got ${describe(args)}`)
  if (args !== undefined) requireNoNul(args)
  const isRow = ['id', 'submit_id', 'submit_time'].every((name) => typeof fields[name] === 'string')
  const runFields = parseRunFields(fields, isRow)
  const tag = parseTagFields(fields, isRow, Object.keys(runFields))
  return {
    args: args ?? '',
    ...parseAmountFields(fields),
    ...runFields,
    ...(request && { request }),
    ...(Object.keys(tag).length > 0 && { tag }),
  }
}

/**
 * Where and how the task runs: an absolute path as `cwd` or `shell`, an object as `env`, a text with a brace as `template`. No
 * tag has such a value, so a column of a table of parameters may have one of these names. In a row of `list --json` any text is
 * a template.
 */
function parseRunFields(fields: Readonly<Record<string, unknown>>, isRow: boolean): TaskRunFields {
  const { cwd, shell, env, template } = fields
  if (isRecord(env) && !Object.values(env).every((one) => typeof one === 'string')) {
    throw new Error('env must be an object of texts')
  }
  return {
    ...(isPath(cwd) && { cwd }),
    ...(isPath(shell) && { shell }),
    ...(isRecord(env) && { env: env as Record<string, string> }),
    ...(typeof template === 'string' && (isRow || template.includes('{')) && { template }),
  }
}

/**
 * The fields of a line of JSON that has a template of its own. A template without a brace is the command itself: as `template`
 * it would be read as a tag.
 */
export function withTemplate(args: string, template: string): Pick<NewTask, 'args' | 'template'> {
  return template.includes('{') ? { args, template } : { args: template, template: '{}' }
}

type TaskRunFields = Pick<NewTask, 'cwd' | 'shell' | 'env' | 'template'>

function isPath(value: unknown): value is string {
  return typeof value === 'string' && value.startsWith('/')
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** @param runFields names of fields that say how the task runs, and are no tags then */
function parseTagFields(
  fields: Readonly<Record<string, unknown>>,
  isRow: boolean,
  runFields: readonly string[],
): Tags {
  const rest = Object.entries(fields).filter(
    ([name]) => ![...FIELDS, ...runFields].includes(name) && !(isRow && OUTPUT_COLUMNS.has(name)),
  )
  const own = [fields.tags, fields.tag].map((given) => checkTags(given ?? {}))
  const all = [...rest, ...own.flatMap((tags) => Object.entries(tags))]
  // The tag with the partition of the old row does not belong to the new task.
  return checkTags(dictFromEntries(all.filter(([name]) => !(isRow && name === 'part'))))
}

/** A number is taken as it is, `timeout` in seconds. A text is read as in a directive. */
function parseAmountFields(fields: Readonly<Record<string, unknown>>): Directives {
  const words: string[] = []
  const amounts: Record<string, number> = {}
  for (const name of ['group', 'cores', 'memory', 'timeout']) {
    const value = fields[name]
    if (value === undefined || value === null) continue
    if (typeof value === 'number')
      amounts[name] = name === 'timeout' ? parseTaskDuration(value) : value
    else words.push(`${name}:${String(value).replaceAll(/\s/g, '')}`)
  }
  const problem = findTaskProblem({ args: '', ...amounts })
  if (problem !== undefined) throw new Error(problem)
  return { ...parseDirectives(words.join(' ')), ...amounts }
}

/**
 * Reads `METHOD URL [body]`. A body that is JSON gets its content type.
 * @throws Error
 */
export function parseRequestTask(line: string): NewTask {
  const match = /^(\S+)\s+(\S+)(?:\s+([\s\S]+))?$/.exec(line)
  if (!match || !METHODS.includes(match[1] as string)) {
    throw new Error(
      `a request must be like 'POST http://calc/x {"a":1}', with a method of ${METHODS.join(' ')}`,
    )
  }
  const body = match[3] ?? null
  const headers: Record<string, string> = isJson(body) ? { 'content-type': 'application/json' } : {}
  return {
    args: line,
    request: parseTaskRequest({ method: match[1], url: match[2], headers, body }),
  }
}

function parseTaskRequest(given: unknown): TaskRequest {
  if (typeof given !== 'object' || given === null)
    throw new Error(`request must be an object, got ${describe(given)}`)
  const {
    method = 'GET',
    url,
    headers = {},
    body = null,
    ...others
  } = given as Record<string, unknown>
  const [unknown] = Object.keys(others)
  if (unknown !== undefined)
    throw new Error(`request has no field '${unknown}'; its fields are method, url, headers, body`)
  if (typeof method !== 'string' || !METHODS.includes(method)) {
    throw new Error(`request.method must be one of ${METHODS.join(' ')}, got ${describe(method)}`)
  }
  if (typeof url !== 'string' || !/^https?:\/\/[^/\s]/.test(url) || !URL.canParse(url)) {
    throw new Error(
      `request.url must be a virtual URL such as http://calc/x, got ${String(url).slice(0, 100)}`,
    )
  }
  if (!isHeaders(headers)) throw new Error('request.headers must be an object of texts')
  checkSendableHeaders(headers)
  // An object as body is sent as JSON.
  if (typeof body === 'object' && body !== null) {
    const typed = { 'content-type': 'application/json', ...headers }
    return { method, url, headers: typed, body: toJson(body) }
  }
  if (body !== null && typeof body !== 'string')
    throw new Error(`request.body must be a text or an object, got ${describe(body)}`)
  return { method, url, headers, body }
}

function isHeaders(given: unknown): given is Record<string, string> {
  return (
    typeof given === 'object' &&
    given !== null &&
    Object.values(given).every((value) => typeof value === 'string')
  )
}

function isJson(body: string | null): boolean {
  if (body === null || !/^\s*[[{"]/.test(body)) return false
  try {
    JSON.parse(body)
    return true
  } catch {
    return false
  }
}
