/** Lines that are no shell command: a task as JSON, and a request as `POST http://calc/x {"a":1}`. */
import { checkedHeaders } from '../request.ts'
import { type Directives, parseDirectives } from './directives.ts'
import { parseJson, toJson } from './json.ts'
import { taskProblem } from './store/check.ts'
import { checkTags } from './tags.ts'
import type { NewTask, TaskRequest } from './task.ts'

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

const FIELDS = ['args', 'request', 'group', 'cores', 'memory', 'timeout', 'tag', 'tags']

/**
 * `{"args": "echo hi", "cores": 2, "memory": "2GB", "timeout": 30, "tag": {"site": "x"}}`; `timeout` in seconds, as
 * in a directive. What is none of the fields is a tag, so that a table of parameters needs nothing else.
 * @throws Error
 */
export function taskOfJson(text: string): NewTask {
  const given = objectOf(text)
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new Error('a line of JSON is an object')
  }
  const fields = given as Record<string, unknown>
  const request = fields.request === undefined ? undefined : requestOf(fields.request)
  const args = fields.args ?? (request ? `${request.method} ${request.url}` : undefined)
  if (args !== undefined && typeof args !== 'string') throw new Error('args must be a text')
  if (args?.includes('\0')) throw new Error('there is a NUL in it, which no command can hold')
  const rest = Object.entries(fields).filter(([name]) => !FIELDS.includes(name))
  const tag = checkTags({
    ...Object.fromEntries(rest),
    ...Object(fields.tags),
    ...Object(fields.tag),
  })
  return {
    args: args ?? '',
    ...amountsOf(fields),
    ...(request && { request }),
    ...(Object.keys(tag).length > 0 && { tag }),
  }
}

/** A number is meant as it is, but that `timeout` is in seconds; a text is read as in a directive. */
function amountsOf(fields: Readonly<Record<string, unknown>>): Directives {
  const words: string[] = []
  const amounts: Record<string, number> = {}
  for (const name of ['group', 'cores', 'memory', 'timeout']) {
    const value = fields[name]
    if (value === undefined || value === null) continue
    if (typeof value === 'number' && name !== 'timeout') amounts[name] = value
    else words.push(`${name}:${String(value).replaceAll(/\s/g, '')}`)
  }
  const problem = taskProblem({ args: '', ...amounts })
  if (problem !== undefined) throw new Error(problem)
  return { ...parseDirectives(words.join(' ')), ...amounts }
}

/**
 * `METHOD URL [body]`; a body that is JSON has its content type.
 * @throws Error
 */
export function taskOfRequest(line: string): NewTask {
  const match = /^(\S+)\s+(\S+)(?:\s+([\s\S]+))?$/.exec(line)
  if (!match || !METHODS.includes(match[1] as string)) {
    throw new Error(`a request is like 'POST http://calc/x {"a":1}', methods ${METHODS.join(' ')}`)
  }
  const body = match[3] ?? null
  const headers: Record<string, string> = isJson(body) ? { 'content-type': 'application/json' } : {}
  return { args: line, request: requestOf({ method: match[1], url: match[2], headers, body }) }
}

function requestOf(given: unknown): TaskRequest {
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
  checkedHeaders(headers)
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

function objectOf(text: string): unknown {
  try {
    return parseJson(text)
  } catch (error) {
    throw new Error(`it is not JSON: ${(error as Error).message}`)
  }
}
