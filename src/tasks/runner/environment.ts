/** What a task finds in its environment: itself, field by field. */

import { createDict } from '../../core/null-prototype.ts'
import { inheritedEnvironment } from '../../posix/environment.ts'
import { formatTime, toSeconds } from '../text/units.ts'
import type { RunTask } from './protocol.ts'
import { exceedsWordLimit } from './shell-words.ts'

const EXPORT_PREFIXES = ['MANYHOST_EXPORT_', 'HYPERSHELL_EXPORT_']

/** What the launcher's shell would take as its own. */
const SHELL_VARIABLES = /^(?:ENV|BASH_ENV|PS4)$/

/** The environment that all tasks of a runner start from: its own without our secrets, and `MANYHOST_EXPORT_X=v` as `X=v`. */
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
  // HOST and PORT are where the runner listens: a server that a task starts must not take them for its own.
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

/** Fields that are none of the shell's business, or stand under a name of their own. */
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

/** As rows have it: a time of `...Time` as ISO 8601, a length of time in seconds. */
function formatField(field: string, value: unknown): unknown {
  if (typeof value !== 'number') return value
  if (field.endsWith('Time')) return formatTime(value)
  return DURATION_FIELDS.has(field) ? toSeconds(value) : value
}

/**
 * `TASK_<FIELD>` for each field that is known, `TASK_TAG_<KEY>`, `TASK_ARGS`, `TASK_COMMAND`, `TASK_SLOT`, `TASK_CWD`.
 * What is longer than a variable may be (120,000 bytes) is left out.
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
