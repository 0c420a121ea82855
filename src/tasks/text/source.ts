/** Makes tasks from any source of lines. The source is read no faster than tasks are taken. */
import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import { describe } from '../../core/describe.ts'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { catchRejection, FirstFailureReporter } from '../../core/user-functions.ts'
import type { NewTask } from '../model/task.ts'
import { type Directives, mergeDirectives, splitLine } from './directives.ts'
import { parseJsonTask, parseRequestTask } from './json-and-request-lines.ts'
import { type JsonItem, readJsonItems } from './json-lines.ts'
import { readLines, type SourceLine } from './lines.ts'
import { requireNoNul } from './nul.ts'

/** Where tasks can come from: lines or whole tasks, one by one. */
export type TaskSource =
  | Iterable<string | NewTask>
  | AsyncIterable<string | NewTask>
  | AsyncIterable<Uint8Array>

/**
 * How a line is read. `command`: a shell command; `json`: an object with `args` (or `request`), `cores`, `tag`, ...;
 * `request`: `POST http://calc/x {"a":1}`.
 */
export type LineKind = 'command' | 'json' | 'request'

export interface SourceOptions {
  /** @default 'command' */
  readonly kind?: LineKind
  /** Directives for all tasks. Directives of a line replace them. */
  readonly defaults?: Directives
  /**
   * What happens at a line that is not a task. `stop` ends the source with the error. A function is called with the error,
   * and the source goes on. @default 'stop'
   */
  readonly onBad?: 'stop' | ((error: ManyhostError, line: number) => void)
  /** Changes each task. Where it throws, the line counts as one that is not a task. @default the task as it is */
  readonly make?: (task: NewTask) => NewTask | Promise<NewTask>
  /**
   * Is called with the number of each line, 1, 2, ..., before its task is given. For an object over many lines this is the
   * last line; for a list on one line it is the line before, until the last task of the list is given. `isStanding`: the line
   * sets directives for all following tasks. What the function throws is reported once, and changes nothing.
   */
  readonly onLine?: (line: number, isStanding: boolean) => void
}

/** Longest line, in bytes. */
export const LONGEST_LINE = 1_048_576

/**
 * Reads the tasks of a source, in its order.
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

/** @throws what the function throws: it may end the source in this way */
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
  /** Directives that stand on a line of their own, for all following tasks. */
  readonly directivesForAll?: Directives
}

function parseItem(item: SourceLine | JsonItem, kind: LineKind, standing: Directives): ParsedLine {
  if ('value' in item) return { task: withDirectives(standing, parseJsonTask(item.value)) }
  const { text } = item as SourceLine
  if (typeof text === 'string')
    return parseTaskLine(text, kind === 'json' ? 'command' : kind, standing)
  return { task: withDirectives(standing, checkGivenTask(text)) }
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION, or another Error that says what is wrong with the line */
export function parseTaskLine(
  text: string,
  kind: Exclude<LineKind, 'json'>,
  standing: Directives = {},
): ParsedLine {
  requireNoNul(text)
  if (text.trim() === '') return {}
  const { command, directives } = splitLine(text)
  if (command === '') return { directivesForAll: directives }
  const own = mergeDirectives(standing, directives)
  if (kind === 'request') return { task: { ...own, ...parseRequestTask(command) } }
  return { task: { args: command, ...own } }
}

/** Of a whole task only the tags are merged with the standing ones; its own fields come first. */
function withDirectives(standing: Directives, task: NewTask): NewTask {
  return { ...standing, ...task, ...mergeTags(standing, task) }
}

function mergeTags(standing: Directives, task: NewTask): Pick<NewTask, 'tag'> {
  return standing.tag || task.tag ? { tag: { ...standing.tag, ...task.tag } } : {}
}

/** A task that a program gives must match its type; here only the command line is checked. */
function checkGivenTask(task: NewTask): NewTask {
  if (typeof task !== 'object' || task === null || typeof task.args !== 'string') {
    throw new Error(
      `a task must be a line of text, or an object with a text as args, got ${describe(task)}`,
    )
  }
  requireNoNul(task.args)
  return task
}

/** A stream that fails before it is read must not end the program: the failure reaches whoever reads it later. */
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
