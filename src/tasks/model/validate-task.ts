/** Checks given tasks: everything in them comes from outside. */

import { checkSendableHeaders, parseHttpMethod, parseTargetUrl } from '../../client/request.ts'
import { describe } from '../../core/describe.ts'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { findTagsProblem } from '../text/tags.ts'
import type { NewTask } from './task.ts'

/** Characters of a command line; the kernel takes 128 KiB in one argument, a shell's script may be longer. */
export const LONGEST_ARGS = 8 << 20
const LONGEST_REQUEST = 64 << 20

/** Why this cannot be a task; undefined if it can. */
export function findTaskProblem(task: NewTask): string | undefined {
  if (typeof task !== 'object' || task === null)
    return `a task must be an object, got ${describe(task)}`
  const { args, request, group, cores, memory, timeout, tag } = task
  const numbers = { cores, memory, timeout }
  for (const [name, value] of Object.entries(numbers)) {
    if (value !== undefined && value !== null && !(Number.isFinite(value) && value > 0)) {
      return `${name} must be a number above 0, got ${describe(value)}`
    }
  }
  if (group !== undefined && !(Number.isSafeInteger(group) && Math.abs(group) < 2 ** 31)) {
    return `group must be a whole number of 32 bits, got ${describe(group)}`
  }
  return (
    findTextProblem('args', args, LONGEST_ARGS) ??
    findRequestProblem(request) ??
    findTagsProblem(tag) ??
    findRunFieldsProblem(task)
  )
}

/** Checks the fields that say where and how the task is run. */
function findRunFieldsProblem({
  command,
  template,
  cwd,
  shell,
  env,
  batch,
}: NewTask): string | undefined {
  const texts = { command, template, cwd, shell, batch }
  for (const [name, value] of Object.entries(texts)) {
    if (value === undefined || value === null) continue
    const problem = findTextProblem(name, value, LONGEST_ARGS)
    if (problem) return problem
    if ((name === 'cwd' || name === 'shell') && !value.startsWith('/')) {
      return `${name} must be an absolute path, got ${describe(value)}`
    }
  }
  if (env === undefined || env === null) return undefined
  if (typeof env !== 'object') return `env must be an object of texts, got ${describe(env)}`
  for (const [name, value] of Object.entries(env)) {
    if (!/^[A-Za-z_]\w*$/.test(name))
      return `env: ${describe(name)} cannot be the name of a variable`
    const problem = findTextProblem(`env: ${name}`, value, LONGEST_ARGS)
    if (problem) return problem
  }
  return undefined
}

/** Why a column, or an argument of a command, cannot hold this text. */
export function findTextProblem(name: string, value: unknown, longest: number): string | undefined {
  if (typeof value !== 'string') return `${name} must be a text, got ${describe(value)}`
  if (value.length > longest)
    return `${name} can have at most ${longest} characters, got ${value.length}`
  if (value.includes('\0')) return `${name} has a NUL character, which no command line can hold`
  if (!value.isWellFormed())
    return `${name} must be well-formed Unicode: it has half of a surrogate pair`
  return undefined
}

function findRequestProblem(request: NewTask['request']): string | undefined {
  if (request === undefined || request === null) return undefined
  const text = JSON.stringify(request)
  const { method, url, headers, body } = request
  if (typeof url !== 'string' || typeof headers !== 'object' || headers === null) {
    return `request must have method, url, headers and body, got ${text.slice(0, 200)}`
  }
  if (body !== null && typeof body !== 'string')
    return `the body of a request must be a text or null, got ${describe(body)}`
  try {
    parseHttpMethod(method)
    parseTargetUrl(url)
    checkSendableHeaders(headers)
  } catch (error) {
    return `request: ${describeError(error)}`
  }
  return text.length > LONGEST_REQUEST
    ? `a request can have at most ${LONGEST_REQUEST} characters, got ${text.length}`
    : undefined
}

export function invalidTaskError(problem: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_TASK', problem)
}

/** Text that every engine can hold. The output of one task must not make the outcomes of others fail that are kept with it. */
export function toStorableText(text: string | null | undefined): string | null {
  return text === null || text === undefined ? null : text.toWellFormed().replaceAll('\0', '\ufffd')
}
