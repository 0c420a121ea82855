/** What is wrong in a configuration file: where, what, what is allowed, and the line with a pointer into it. */
import { ManyhostError } from '../core/errors.ts'

/** From the first character to behind the last one. */
export interface TextSpan {
  readonly start: number
  readonly end: number
}

export interface ConfigProblem {
  /** As it was given to `loadConfig`. */
  readonly file: string
  /** From 1 up; 0 where the file as a whole is meant. */
  readonly line: number
  readonly column: number
  /** `services.http://calc.size`; empty for the file as a whole. */
  readonly path: string
  /** A whole sentence, the path included. */
  readonly message: string
  /** What may be there instead, where the message does not say it. */
  readonly allowed?: string
  /** The line and a `^` below the place; what is or may be secret in it is masked. */
  readonly snippet: string
}

/** At most so many are written out. */
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
