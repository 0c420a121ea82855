/** Mistakes in a configuration file: the place, the message, what is allowed, and the line with a pointer. */
import { ManyhostError } from '../core/errors.ts'

/** Offsets of the first character, and of the one after the last. */
export interface TextSpan {
  readonly start: number
  readonly end: number
}

export interface ConfigProblem {
  /** As it was given to `loadConfig`. */
  readonly file: string
  /** From 1 up; 0 for the file as a whole. */
  readonly line: number
  readonly column: number
  /** `services.http://calc.size`; empty for the file as a whole. */
  readonly path: string
  /** A complete sentence that contains the path. */
  readonly message: string
  /** What is allowed instead, if the message does not contain it. */
  readonly allowed?: string
  /** The line, and `^` below the place. Parts that are or may be secret are masked. */
  readonly snippet: string
}

/** Further problems are only counted in the message. */
const MAX_SHOWN = 50

/** All mistakes of a file at once. The message is the rendered text. */
export class ConfigError extends ManyhostError {
  readonly problems: readonly ConfigProblem[]

  constructor(problems: readonly ConfigProblem[]) {
    super('MANYHOST_INVALID_OPTION', renderProblems(problems))
    this.problems = problems
  }
}

function renderProblems(problems: readonly ConfigProblem[]): string {
  const shown = problems.slice(0, MAX_SHOWN).map(renderProblem)
  const more = problems.length - shown.length
  if (more > 0) shown.push(`... and ${more} more`)
  return shown.join('\n')
}

function renderProblem({ file, line, column, message, snippet, allowed }: ConfigProblem): string {
  const where = line > 0 ? `${file}:${line}:${column}` : file
  const rows = [`${where}: ${message}`]
  if (snippet) rows.push(snippet)
  if (allowed) rows.push(`  ${allowed}`)
  return rows.join('\n')
}

/** Columns of a line that are shown before and behind the place. */
const MAX_BEFORE = 60
const MAX_WIDTH = 100

/** `text` is one line, already masked; `from` and `to` are columns in it, from 0. */
export function renderSnippet(text: string, line: number, from: number, to: number): string {
  const cut = Math.max(0, from - MAX_BEFORE)
  const shown = toPrintable(text.slice(cut, cut + MAX_WIDTH)).replaceAll('\t', ' ')
  const length = Math.max(1, Math.min(to, cut + shown.length) - from)
  const margin = `  ${line} | `
  return `${margin}${shown}\n${' '.repeat(margin.length - 2)}| ${' '.repeat(from - cut)}${'^'.repeat(length)}`
}

/** Without what could steer a terminal. */
export function toPrintable(text: string): string {
  return text.replace(/(?!\t)[\p{Cc}\p{Cf}\u2028\u2029]/gu, '\ufffd')
}
