/** The file of failures: lines that, fed back to the same command, are the same tasks again. */
import { appendFile } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import type { NewTask, Task } from '../model/task.ts'
import { toJson } from '../text/exact-json.ts'
import { withTemplate } from '../text/json-and-request-lines.ts'
import { type LineKind, parseTaskLine } from '../text/source.ts'

/** What the lines are read with when they are fed back. */
export interface FailureLineOptions {
  readonly kind: LineKind
  readonly template: string
  /** Folder, shell and variables of a task whose line says none. */
  readonly cwd: string
  readonly shell?: string | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
}

/** Command lines and variables of tasks are in it: where it is made, it is for this user alone, as the store is. */
const PRIVATE_FILE = { mode: 0o600 }

/**
 * Adds tasks to the file. One that no line of this kind can say, such as a command of two lines, is added to a file of
 * JSON lines beside it. Answers what there is to say of that.
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

/** One line that gives the same task again, for people to copy: of its kind, or of JSON where that cannot say it. */
export function formatFailureLine(task: Task, reading: FailureLineOptions): string {
  return formatLine(task, reading) ?? formatJsonLine(task, reading)
}

/** Undefined: no line of this kind says all of it. */
function formatLine(task: Task, reading: FailureLineOptions): string | undefined {
  const { kind, template } = reading
  if (kind === 'json') return formatJsonLine(task, reading)
  // A task of another folder would run in this one: only JSON can say where and how it runs.
  if (Object.keys(pickOverrides(task, reading)).length > 0) return undefined
  const { args, words } = { args: argsForTemplate(task, template), words: formatDirectives(task) }
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

/** Where and how it runs, as far as a line that says nothing of it would run elsewhere or otherwise. */
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
 * What the template that lines are read with is to be given. A task with another template is told as its command, where
 * lines are commands; undefined: no line says it.
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

/** For a comparison: a group of 0 is none. */
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
