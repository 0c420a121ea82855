/** From anything that gives lines to tasks, read no faster than they are asked for. */
import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { catchRejection, FirstFailureReporter } from '../../core/user-functions.ts'
import type { NewTask } from '../model/task.ts'
import { type Directives, mergeDirectives, splitLine } from './directives.ts'
import { parseJsonTask, parseRequestTask } from './json-and-request-lines.ts'
import { type JsonItem, readJsonItems } from './json-lines.ts'
import { readLines, type SourceLine } from './lines.ts'

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
  const failure = new FirstFailureReporter({
    what: 'onLine of the tasks',
    instead: 'its failure is ignored',
  })
  const lines = readLines(source, LONGEST_LINE)
  for await (const item of kind === 'json' ? readJsonItems(lines, LONGEST_LINE) : lines) {
    const { number, problem } = item
    try {
      if (problem !== undefined) throw new Error(problem)
      const { task, directivesForAll: all } = parseItem(item, kind, standing)
      if (all) standing = mergeDirectives(standing, all)
      if (onLine) failure.run(() => onLine('last' in item ? item.last : number, all !== undefined))
      if (!task) continue
      const made = make ? make(task) : task
      yield made instanceof Promise ? await made : made
    } catch (cause) {
      const error = badLineError(number, cause)
      if (onBad === 'stop') throw error
      reportBadLine(onBad, error, number)
    }
  }
}

/** @throws what the function throws: it has the last word on whether the source goes on */
function reportBadLine(
  onBad: Exclude<SourceOptions['onBad'], 'stop' | undefined>,
  error: ManyhostError,
  line: number,
): void {
  const failure = new FirstFailureReporter({
    what: `onBad of the tasks, for line ${line},`,
    instead: 'the source goes on',
  })
  catchRejection(onBad(error, line), (thrown) => failure.reportThrown(thrown))
}

interface ParsedLine {
  readonly task?: NewTask
  /** Said by a line of its own, of all that follow. */
  readonly directivesForAll?: Directives
}

function parseItem(item: SourceLine | JsonItem, kind: LineKind, standing: Directives): ParsedLine {
  if ('value' in item) return { task: withDirectives(standing, parseJsonTask(item.value)) }
  const { text } = item as SourceLine
  if (typeof text === 'string')
    return parseTaskLine(text, kind === 'json' ? 'command' : kind, standing)
  return { task: withDirectives(standing, checkGivenTask(text)) }
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION, or an Error that says what is wrong with the line */
export function parseTaskLine(
  text: string,
  kind: Exclude<LineKind, 'json'>,
  standing: Directives = {},
): ParsedLine {
  if (text.includes('\0')) throw new Error('there is a NUL in it, which no command can hold')
  if (text.trim() === '') return {}
  const { command, directives } = splitLine(text)
  if (command === '') return { directivesForAll: directives }
  const own = mergeDirectives(standing, directives)
  if (kind === 'request') return { task: { ...own, ...parseRequestTask(command) } }
  return { task: { args: command, ...own } }
}

function withDirectives(standing: Directives, task: NewTask): NewTask {
  return { ...mergeDirectives(standing, task), ...task, ...mergeTags(standing, task) }
}

function mergeTags(standing: Directives, task: NewTask): Pick<NewTask, 'tag'> {
  return standing.tag || task.tag ? { tag: { ...standing.tag, ...task.tag } } : {}
}

/** A task that a program hands in: as its type says, but for what no command can hold. */
function checkGivenTask(task: NewTask): NewTask {
  if (typeof task !== 'object' || task === null || typeof task.args !== 'string') {
    throw new Error('a task is a line of text, or an object with `args`')
  }
  if (task.args.includes('\0')) throw new Error('there is a NUL in it, which no command can hold')
  return task
}

/** A stream that breaks before anybody reads it must not end the program: who reads it is told. */
export function ignoreStreamErrors<Source extends TaskSource | undefined>(source: Source): Source {
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
  return readTasks(ignoreStreamErrors(stream), options)
}

function badLineError(line: number, cause: unknown): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_TASK', `line ${line}: ${describeError(cause)}`, {
    cause,
  })
}
