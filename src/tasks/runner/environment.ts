/** What a task finds in its environment: itself, field by field. */

import { dict } from '../../core/dict.ts'
import { inheritedEnvironment } from '../../posix/environment.ts'
import { timeText, toSeconds } from '../units.ts'
import type { RunTask } from './protocol.ts'
import { isLong } from './quote.ts'

const PREFIXES = ['MANYHOST_EXPORT_', 'HYPERSHELL_EXPORT_']

/** What the launcher's shell would take as its own. */
const OF_SHELLS = /^(?:ENV|BASH_ENV|PS4)$/

/** The environment that all tasks of a runner start from: its own without our secrets, and `MANYHOST_EXPORT_X=v` as `X=v`. */
export function baseEnvironment(
  own: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const base = dict<string>()
  for (const [name, value] of Object.entries(inheritedEnvironment(own))) {
    if (OF_SHELLS.test(name)) continue
    const prefix = PREFIXES.find((one) => name.startsWith(one) && name.length > one.length)
    if (prefix) base[name.slice(prefix.length)] = value
    else base[name] ??= value
  }
  // HOST and PORT are where the runner listens: a server that a task starts must not take them for its own.
  for (const name of ['HOST', 'PORT', 'SOCKET_PATH']) delete base[name]
  return base
}

const names = new Map<string, string>()

/** `submitTime` as `TASK_SUBMIT_TIME`. */
function nameOf(field: string): string {
  let name = names.get(field)
  if (name === undefined) {
    name = `TASK_${field.replaceAll(/[A-Z]/g, (letter) => `_${letter}`)}`.toUpperCase()
    if (names.size < 200) names.set(field, name)
  }
  return name
}

/** Fields that are none of the shell's business, or stand under a name of their own. */
const LEFT_OUT = [
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

const SPANS: ReadonlySet<string> = new Set(['timeout', 'waited', 'duration'])

/** As rows have it: a time of `...Time` as ISO 8601, a length of time in seconds. */
function shown(field: string, value: unknown): unknown {
  if (typeof value !== 'number') return value
  if (field.endsWith('Time')) return timeText(value)
  return SPANS.has(field) ? toSeconds(value) : value
}

/**
 * `TASK_<FIELD>` for each field that is known, `TASK_TAG_<KEY>`, `TASK_ARGS`, `TASK_COMMAND`, `TASK_SLOT`, `TASK_CWD`.
 * What is longer than a variable may be (120,000 bytes) is left out.
 */
export function taskEnvironment(
  task: RunTask,
  extra: Readonly<Record<string, string | number>>,
): Record<string, string> {
  const env = dict<string>()
  const put = (name: string, value: unknown): void => {
    if (value === null || value === undefined) return
    const text = String(value)
    if (!text.includes('\0') && !isLong(text)) env[name] = text
  }
  for (const [field, value] of Object.entries(task)) {
    if (!LEFT_OUT.includes(field) && /^\w+$/.test(field) && typeof value !== 'object') {
      put(nameOf(field), shown(field, value))
    }
  }
  put('TASK_ARGS', task.args)
  for (const [name, value] of Object.entries(extra)) put(name, value)
  for (const [key, value] of Object.entries(task.tag ?? {})) {
    put(`TASK_TAG_${key.replaceAll(/\W/g, '_').toUpperCase()}`, value)
  }
  return env
}
