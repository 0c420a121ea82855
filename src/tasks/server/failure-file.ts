/** The file of failures: its lines, given to the same command again, become the same tasks. */
import { appendFile } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import type { NewTask, Task } from '../model/task.ts'
import { toJson } from '../text/exact-json.ts'
import { withTemplate } from '../text/json-and-request-lines.ts'
import { type LineKind, parseTaskLine } from '../text/source.ts'

/** How the lines will be read. */
export interface FailureLineOptions {
  readonly kind: LineKind
  readonly template: string
  /** Folder, shell and variables of a task whose line does not name them. */
  readonly cwd: string
  readonly shell?: string | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
}

/** For this user alone, as the store is: command lines and variables may hold secrets. */
const PRIVATE_FILE = { mode: 0o600 }

/**
 * Adds tasks to the file. A task that no line of this kind can describe, such as a command of two lines, is added to a file of
 * JSON lines beside it. Answers a message for the user about that, if it happened.
 */
export async function appendFailures(
  path: string,
  tasks: readonly Task[],
  reading: FailureLineOptions,
): Promise<string | undefined> {
  const lines: string[] = []
  const others: string[] = []
  for (const task of tasks) {
    const line = formatLine(task, reading)
    if (line === undefined) others.push(formatJsonLine(task, reading))
    else lines.push(line)
  }
  if (lines.length > 0) await appendFile(path, `${lines.join('\n')}\n`, PRIVATE_FILE)
  if (others.length === 0) return undefined
  const beside = `${path}.json`
  await appendFile(beside, `${others.join('\n')}\n`, PRIVATE_FILE)
  return `failures: ${others.length} task${others.length === 1 ? ' fits' : 's fit'} no line of ${path}; ${others.length === 1 ? 'it is' : 'they are'} in ${beside}, for --from-json`
}

/** One line that becomes the same task again, for people to copy: of its kind, or of JSON if that kind cannot describe it. */
export function formatFailureLine(task: Task, reading: FailureLineOptions): string {
  return formatLine(task, reading) ?? formatJsonLine(task, reading)
}

/** Undefined: no line of this kind describes the whole task. */
function formatLine(task: Task, reading: FailureLineOptions): string | undefined {
  const { kind, template } = reading
  if (kind === 'json') return formatJsonLine(task, reading)
  // Only JSON can name the folder, shell and variables of a task.
  if (Object.keys(pickOverrides(task, reading)).length > 0) return undefined
  const args = argsForTemplate(task, template)
  const words = formatDirectives(task)
  if (args === undefined) return undefined
  const line = words.length > 0 ? `${args} # MANYHOST: ${words.join(' ')}` : args
  if (/[\r\n]/.test(line)) return undefined
  try {
    const read = parseTaskLine(line, kind).task
    return read &&
      isDeepStrictEqual(
        withoutDefaultGroup(read),
        withoutDefaultGroup({ ...toNewTask(task), args }),
      )
      ? line
      : undefined
  } catch {
    return undefined
  }
}

function formatJsonLine(task: Task, reading: FailureLineOptions): string {
  const { timeout, args: _, ...rest } = toNewTask(task)
  const own = task.template ?? '{}'
  const isOther = own !== reading.template && !task.request
  return toJson({
    ...(isOther ? withTemplate(task.args, own) : { args: task.args }),
    ...rest,
    ...(timeout !== undefined && { timeout: timeout / 1_000 }),
    ...pickOverrides(task, reading),
  })
}

/** Folder, shell and variables of the task that differ from those of a line which does not name them. */
function pickOverrides(
  { cwd, shell, env, request }: Task,
  reading: FailureLineOptions,
): Pick<NewTask, 'cwd' | 'shell' | 'env'> {
  if (request) return {}
  return {
    ...(cwd !== null && cwd !== reading.cwd && { cwd }),
    ...(shell !== null && shell !== reading.shell && { shell }),
    ...(env !== null && !isDeepStrictEqual(env, { ...reading.env }) && { env }),
  }
}

/**
 * The args that, put into the template of the lines, give the task's command. A task with another template is written as its
 * command if lines are commands. Undefined: no args give it.
 */
function argsForTemplate(
  { args, template, command, request }: Task,
  read: string,
): string | undefined {
  if (request || (template ?? '{}') === read) return args
  return read === '{}' ? (command ?? undefined) : undefined
}

function toNewTask({ args, request, group, cores, memory, timeout, tag }: Task): NewTask {
  return {
    args,
    ...(request && { request }),
    ...(group !== 0 && { group }),
    ...(cores !== null && { cores }),
    ...(memory !== null && { memory }),
    ...(timeout !== null && { timeout }),
    ...(Object.keys(tag).length > 0 && { tag }),
  }
}

/** For a comparison: group 0 is the same as no group. */
function withoutDefaultGroup({ group, ...rest }: NewTask): NewTask {
  return { ...rest, ...(group && { group }) }
}

function formatDirectives(task: Task): string[] {
  const { cores, memory, timeout, group, tag } = task
  const words = [
    ...(cores === null ? [] : [`cores:${cores}`]),
    ...(memory === null ? [] : [`memory:${memory}`]),
    ...(timeout === null ? [] : [`timeout:${timeout / 1_000}`]),
    ...Object.entries(tag).map(([key, value]) => `${key}:${value}`),
  ]
  return words.length > 0 || group !== 0 ? [`group:${group}`, ...words] : words
}
