/** Lines that are no shell command: a task as JSON, and a request as `POST http://calc/x {"a":1}`. */

import { checkSendableHeaders } from '../../client/request.ts'
import { dictFromEntries } from '../../core/null-prototype.ts'
import type { NewTask, Tags, TaskRequest } from '../model/task.ts'
import { TASK_COLUMNS } from '../model/task-columns.ts'
import { findTaskProblem } from '../model/validate-task.ts'
import { type Directives, parseDirectives } from './directives.ts'
import { toJson } from './exact-json.ts'
import { checkTags } from './tags.ts'
import { parseTaskDuration } from './units.ts'

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

const FIELDS = ['args', 'request', 'group', 'cores', 'memory', 'timeout', 'tag', 'tags']

/** What a row of `list --json` says beside these: of the task that was, not of the one that is to be. */
const OUTPUT_COLUMNS: ReadonlySet<string> = new Set(
  TASK_COLUMNS.filter((name) => !FIELDS.includes(name)),
)

/**
 * `{"args": "echo hi", "cores": 2, "memory": "2GB", "timeout": 30, "tag": {"site": "x"}}`; `timeout` in seconds, as
 * in a directive. What is none of the fields is a tag, so that a table of parameters needs nothing else; of a whole row of
 * `list --json` the rest is left out.
 * @throws Error
 */
export function parseJsonTask(given: unknown): NewTask {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new Error('a line of JSON is an object')
  }
  const fields = given as Record<string, unknown>
  const request = fields.request == null ? undefined : parseTaskRequest(fields.request)
  const args = fields.args ?? (request ? `${request.method} ${request.url}` : undefined)
  if (args !== undefined && typeof args !== 'string') throw new Error('args must be a text')
  if (args?.includes('\0')) throw new Error('there is a NUL in it, which no command can hold')
  const isRow = ['id', 'submit_id', 'submit_time'].every((name) => typeof fields[name] === 'string')
  const ways = parseRunFields(fields, isRow)
  const tag = parseTagFields(fields, isRow, Object.keys(ways))
  return {
    args: args ?? '',
    ...parseAmountFields(fields),
    ...ways,
    ...(request && { request }),
    ...(Object.keys(tag).length > 0 && { tag }),
  }
}

/**
 * Where and how it runs: an absolute path as `cwd` or `shell`, an object as `env`, a text with a brace as `template`. No tag
 * has such a value, so a column of a table of parameters may have one of these names. In a row any text is a template.
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
 * How a line of JSON says a template of its own. One without a form is the command itself, whatever the line; as `template`
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

/** @param ways what says how it runs, and is no tag then */
function parseTagFields(
  fields: Readonly<Record<string, unknown>>,
  isRow: boolean,
  ways: readonly string[],
): Tags {
  const rest = Object.entries(fields).filter(
    ([name]) => ![...FIELDS, ...ways].includes(name) && !(isRow && OUTPUT_COLUMNS.has(name)),
  )
  const own = [fields.tags, fields.tag].map((given) => checkTags(given ?? {}))
  const all = [...rest, ...own.flatMap((tags) => Object.entries(tags))]
  // The partition that a row was in is no tag of a new task.
  return checkTags(dictFromEntries(all.filter(([name]) => !(isRow && name === 'part'))))
}

/** A number is meant as it is, `timeout` in seconds; a text is read as in a directive. */
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
 * `METHOD URL [body]`; a body that is JSON has its content type.
 * @throws Error
 */
export function parseRequestTask(line: string): NewTask {
  const match = /^(\S+)\s+(\S+)(?:\s+([\s\S]+))?$/.exec(line)
  if (!match || !METHODS.includes(match[1] as string)) {
    throw new Error(`a request is like 'POST http://calc/x {"a":1}', methods ${METHODS.join(' ')}`)
  }
  const body = match[3] ?? null
  const headers: Record<string, string> = isJson(body) ? { 'content-type': 'application/json' } : {}
  return {
    args: line,
    request: parseTaskRequest({ method: match[1], url: match[2], headers, body }),
  }
}

function parseTaskRequest(given: unknown): TaskRequest {
  if (typeof given !== 'object' || given === null) throw new Error('request must be an object')
  const {
    method = 'GET',
    url,
    headers = {},
    body = null,
    ...others
  } = given as Record<string, unknown>
  const [unknown] = Object.keys(others)
  if (unknown !== undefined) throw new Error(`request: unknown field '${unknown}'`)
  if (typeof method !== 'string' || !METHODS.includes(method)) {
    throw new Error(`request.method must be one of ${METHODS.join(' ')}`)
  }
  if (typeof url !== 'string' || !/^https?:\/\/[^/\s]/.test(url) || !URL.canParse(url)) {
    throw new Error(
      `request.url must be a virtual URL such as http://calc/x, got ${String(url).slice(0, 100)}`,
    )
  }
  if (!isHeaders(headers)) throw new Error('request.headers must be an object of texts')
  checkSendableHeaders(headers)
  // A body that is an object is meant as JSON.
  if (typeof body === 'object' && body !== null) {
    const typed = { 'content-type': 'application/json', ...headers }
    return { method, url, headers: typed, body: toJson(body) }
  }
  if (body !== null && typeof body !== 'string') throw new Error('request.body must be a text')
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
