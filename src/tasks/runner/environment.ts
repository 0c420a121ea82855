/** The environment of a task: what it inherits from the runner, and its own fields as `TASK_...`. */

import { createDict } from '../../core/null-prototype.ts'
import { inheritedEnvironment } from '../../posix/environment.ts'
import { formatTime, toSeconds } from '../text/units.ts'
import type { RunTask } from './protocol.ts'
import { exceedsWordLimit } from './shell-words.ts'

const EXPORT_PREFIXES = ['MANYHOST_EXPORT_', 'HYPERSHELL_EXPORT_']

/** Variables that the launcher's shell would use for itself. */
const SHELL_VARIABLES = /^(?:ENV|BASH_ENV|PS4)$/

/** The variables that all tasks of a runner get: those of the runner without secrets of manyhost, and `MANYHOST_EXPORT_X=v` as `X=v`. */
export function baseEnvironment(
  own: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const base = createDict<string>()
  for (const [name, value] of Object.entries(inheritedEnvironment(own))) {
    if (SHELL_VARIABLES.test(name)) continue
    const prefix = EXPORT_PREFIXES.find((one) => name.startsWith(one) && name.length > one.length)
    if (prefix) base[name.slice(prefix.length)] = value
    else base[name] ??= value
  }
  // The runner listens there. A server that a task starts must not use the same address.
  for (const name of ['HOST', 'PORT', 'SOCKET_PATH']) delete base[name]
  return base
}

const variableNames = new Map<string, string>()

/** `submitTime` as `TASK_SUBMIT_TIME`. */
function variableName(field: string): string {
  let name = variableNames.get(field)
  if (name === undefined) {
    name = `TASK_${field.replaceAll(/[A-Z]/g, (letter) => `_${letter}`)}`.toUpperCase()
    if (variableNames.size < 200) variableNames.set(field, name)
  }
  return name
}

/** Fields that tasks do not get, or get under a special name. */
const OMITTED_FIELDS = [
  'tag',
  'request',
  'args',
  'command',
  'template',
  'batch',
  'shell',
  'attempts',
  'captured',
]

const DURATION_FIELDS: ReadonlySet<string> = new Set(['timeout', 'waited', 'duration'])

/** As in the rows of the store: a field `...Time` in ISO 8601, a duration in seconds. */
function formatField(field: string, value: unknown): unknown {
  if (typeof value !== 'number') return value
  if (field.endsWith('Time')) return formatTime(value)
  return DURATION_FIELDS.has(field) ? toSeconds(value) : value
}

/**
 * `TASK_<FIELD>` for each known field, `TASK_TAG_<KEY>`, `TASK_ARGS`, `TASK_COMMAND`, `TASK_SLOT`, `TASK_CWD`.
 * A value that is longer than a variable may be (120,000 bytes) is left out.
 */
export function taskEnvironment(
  task: RunTask,
  extra: Readonly<Record<string, string | number>>,
): Record<string, string> {
  const env = createDict<string>()
  const put = (name: string, value: unknown): void => {
    if (value === null || value === undefined) return
    const text = String(value)
    if (!text.includes('\0') && !exceedsWordLimit(text)) env[name] = text
  }
  for (const [field, value] of Object.entries(task)) {
    if (!OMITTED_FIELDS.includes(field) && /^\w+$/.test(field) && typeof value !== 'object') {
      put(variableName(field), formatField(field, value))
    }
  }
  put('TASK_ARGS', task.args)
  for (const [name, value] of Object.entries(extra)) put(name, value)
  for (const [key, value] of Object.entries(task.tag ?? {})) {
    put(`TASK_TAG_${key.replaceAll(/\W/g, '_').toUpperCase()}`, value)
  }
  return env
}
