/** Checks the lines of a POST to a runner. */
import { ManyhostError } from '../../core/errors.ts'
import { checkOptions } from '../../core/options.ts'
import { parseJson } from '../text/exact-json.ts'
import { BUNDLE_RULES } from './options.ts'
import type { BundleOptions, RunTask } from './protocol.ts'

const MAX_ID_LENGTH = 200

/**
 * The first line, if it is about the bundle; undefined if it is a task.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function parseBundleOptions(text: unknown): BundleOptions | undefined {
  const given = parseJsonOrUndefined(text)
  if (typeof given !== 'object' || given === null || !('bundle' in given)) return undefined
  const options: BundleOptions = checkOptions('bundle', given.bundle, BUNDLE_RULES)
  const wrong = findWrongVariable(options.env)
  if (wrong === undefined) return options
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `bundle: env: ${JSON.stringify(wrong.slice(0, 100))} is no name of a variable, or its value holds a NUL`,
  )
}

/**
 * A task, or the reason why the line is none.
 * @param problem what is wrong with the line itself
 */
export function parseRunTask(text: unknown, problem: string | undefined): RunTask | string {
  if (problem !== undefined) return problem
  const given = parseJsonOrUndefined(text) as Partial<RunTask> | undefined
  if (typeof given !== 'object' || given === null) return 'a line must be a JSON object'
  const { id, args, fence, cores, memory, timeout, tag, command, template, cwd, shell, env } = given
  if (typeof id !== 'string' || id === '' || id.length > MAX_ID_LENGTH)
    return `id must be a text of 1 to ${MAX_ID_LENGTH} characters`
  if (typeof args !== 'string') return 'args must be a text'
  if (!Number.isSafeInteger(fence)) return 'fence must be a whole number'
  for (const [name, value] of Object.entries({ cores, memory, timeout })) {
    if (value === undefined || value === null) continue
    if (!Number.isFinite(value) || value < 0) return `${name} must be a number from 0 up`
  }
  if (tag !== undefined && (typeof tag !== 'object' || tag === null)) return 'tag must be an object'
  for (const [name, value] of Object.entries({ command, template, cwd, shell })) {
    if (value !== undefined && value !== null && typeof value !== 'string') {
      return `${name} must be a text`
    }
  }
  if (env !== undefined && env !== null) {
    if (typeof env !== 'object' || findWrongVariable(env) !== undefined)
      return 'env must be an object of names of variables and texts without NUL'
  }
  return given as RunTask
}

/** The first variable whose name or value a shell cannot set; undefined if there is none. */
function findWrongVariable(env: object = {}): string | undefined {
  const wrong = Object.entries(env).find(
    ([name, value]) =>
      !/^[A-Za-z_]\w*$/.test(name) || typeof value !== 'string' || value.includes('\0'),
  )
  return wrong?.[0]
}

function parseJsonOrUndefined(text: unknown): unknown {
  if (typeof text !== 'string') return undefined
  try {
    return parseJson(text)
  } catch {
    return undefined
  }
}
