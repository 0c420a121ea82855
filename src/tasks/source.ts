/** From anything that gives lines to tasks, read no faster than they are asked for. */
import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import { describe, ManyhostError } from '../core/errors.ts'
import { FirstFailure, watch } from '../core/guarded.ts'
import { type Directives, mergeDirectives, splitLine } from './directives.ts'
import { type JsonItem, jsonItems } from './json-lines.ts'
import { linesOf, type SourceLine } from './lines.ts'
import { taskOfJson, taskOfRequest } from './other-lines.ts'
import type { NewTask } from './task.ts'

/** What tasks can come from: lines or whole tasks, one by one. */
export type TaskSource =
  | Iterable<string | NewTask>
  | AsyncIterable<string | NewTask>
  | AsyncIterable<Uint8Array>

/**
 * What a line is. `command`: a shell command; `json`: an object with `args` (or `request`), `cores`, `tag`, ...;
 * `request`: `POST http://calc/x {"a":1}`.
 */
export type LineKind = 'command' | 'json' | 'request'

export interface SourceOptions {
  /** @default 'command' */
  readonly kind?: LineKind
  /** What holds for all tasks, unless a line says otherwise. */
  readonly defaults?: Directives
  /**
   * What becomes of a line that cannot be a task. `stop` ends the source with the error; a function is told, and the
   * rest goes on. @default 'stop'
   */
  readonly onBad?: 'stop' | ((error: ManyhostError, line: number) => void)
  /** What is made of each task; where it throws, the line cannot be a task. @default the task as it is */
  readonly make?: (task: NewTask) => NewTask | Promise<NewTask>
  /**
   * Hears the number of each line, 1, 2, ..., before its task is given; of JSON over many lines, of the last one; of a list on
   * one line, of the line before until the last task of the list is given. `isStanding`: it says something of all that follow.
   * What it throws is reported once, and changes nothing.
   */
  readonly onLine?: (line: number, isStanding: boolean) => void
}

/** Longest line, in bytes. */
export const LONGEST_LINE = 1_048_576

/**
 * Tasks of a source, in its order.
 * @throws ManyhostError MANYHOST_INVALID_TASK, with the number of the line; what the source itself throws
 */
export async function* readTasks(
  source: TaskSource,
  { kind = 'command', defaults = {}, onBad = 'stop', make, onLine }: SourceOptions = {},
): AsyncGenerator<NewTask> {
  let standing = defaults
  const failure = new FirstFailure({
    what: 'onLine of the tasks',
    instead: 'its failure is ignored',
  })
  const lines = linesOf(source, LONGEST_LINE)
  for await (const item of kind === 'json' ? jsonItems(lines, LONGEST_LINE) : lines) {
    const { number, problem } = item
    try {
      if (problem !== undefined) throw new Error(problem)
      const { task, all } = takenOf(item, kind, standing)
      if (all) standing = mergeDirectives(standing, all)
      if (onLine) failure.run(() => onLine('last' in item ? item.last : number, all !== undefined))
      if (!task) continue
      const made = make ? make(task) : task
      yield made instanceof Promise ? await made : made
    } catch (cause) {
      const error = bad(number, cause)
      if (onBad === 'stop') throw error
      tellBad(onBad, error, number)
    }
  }
}

/** @throws what the function throws: it has the last word on whether the source goes on */
function tellBad(
  onBad: Exclude<SourceOptions['onBad'], 'stop' | undefined>,
  error: ManyhostError,
  line: number,
): void {
  const failure = new FirstFailure({
    what: `onBad of the tasks, for line ${line},`,
    instead: 'the source goes on',
  })
  watch(onBad(error, line), (thrown) => failure.threw(thrown))
}

interface Taken {
  readonly task?: NewTask
  /** Said by a line of its own, of all that follow. */
  readonly all?: Directives
}

function takenOf(item: SourceLine | JsonItem, kind: LineKind, standing: Directives): Taken {
  if ('value' in item) return { task: merged(standing, taskOfJson(item.value)) }
  const { text } = item as SourceLine
  if (typeof text === 'string')
    return taskOfLine(text, kind === 'json' ? 'command' : kind, standing)
  return { task: merged(standing, checked(text)) }
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION, or an Error that says what is wrong with the line */
export function taskOfLine(
  text: string,
  kind: Exclude<LineKind, 'json'>,
  standing: Directives = {},
): Taken {
  if (text.includes('\0')) throw new Error('there is a NUL in it, which no command can hold')
  if (text.trim() === '') return {}
  const { command, directives } = splitLine(text)
  if (command === '') return { all: directives }
  const own = mergeDirectives(standing, directives)
  if (kind === 'request') return { task: { ...own, ...taskOfRequest(command) } }
  return { task: { args: command, ...own } }
}

function merged(standing: Directives, task: NewTask): NewTask {
  return { ...mergeDirectives(standing, task), ...task, ...tagsOf(standing, task) }
}

function tagsOf(standing: Directives, task: NewTask): Pick<NewTask, 'tag'> {
  return standing.tag || task.tag ? { tag: { ...standing.tag, ...task.tag } } : {}
}

/** A task that a program hands in: as its type says, but for what no command can hold. */
function checked(task: NewTask): NewTask {
  if (typeof task !== 'object' || task === null || typeof task.args !== 'string') {
    throw new Error('a task is a line of text, or an object with `args`')
  }
  if (task.args.includes('\0')) throw new Error('there is a NUL in it, which no command can hold')
  return task
}

/** A stream that breaks before anybody reads it must not end the program: who reads it is told. */
export function heard<Source extends TaskSource | undefined>(source: Source): Source {
  if (source instanceof Readable) source.on('error', () => {})
  return source
}

/** The lines of a file. @throws as `readTasks`; ENOENT and others as the file system says */
export function readTaskFile(path: string, options: SourceOptions = {}): AsyncGenerator<NewTask> {
  return readTaskStream(createReadStream(path), options)
}

/** The lines of standard input, or of any other stream. */
export function readTaskStream(
  stream: Readable,
  options: SourceOptions = {},
): AsyncGenerator<NewTask> {
  return readTasks(heard(stream), options)
}

function bad(line: number, cause: unknown): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_TASK', `line ${line}: ${describe(cause)}`, { cause })
}
