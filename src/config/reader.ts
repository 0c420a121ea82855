/** One file while it is read: the places of its values, the substituted texts, and the collected mistakes. */
import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { LineCounter } from 'yaml'
import { describeError } from '../core/errors.ts'
import {
  ConfigError,
  type ConfigProblem,
  renderSnippet,
  type TextSpan,
  toPrintable,
} from './problem.ts'
import { statRegularFile, substitute } from './substitute.ts'
import { parseYamlTree, type YamlScalar, type YamlTree } from './yaml-tree.ts'

/** Path of a file; or a text, and the path that its relative paths refer to. */
export type ConfigSource = string | { readonly text: string; readonly path?: string }

export type ConfigEnv = Readonly<Record<string, string | undefined>>

/** Limited, because the time of the parser grows with the square of the length of some texts. */
const MAX_FILE_SIZE = 262_144
/** Limit of values, with an alias counted each time, which stops a file of aliases to aliases. */
const MAX_VALUES = 100_000
const MAX_PROBLEMS = 1_000

// biome-ignore lint/suspicious/noTemplateCurlyInString: the hint shows this form
const QUOTES_HINT = 'between [ ] or { } a text with ${...} needs quotes: "${NAME}"'

/** Stops the reading. The mistakes found so far are reported. */
class ReadAborted extends Error {}

/** Text that a secret probably follows, for files that could not be parsed far enough to know. */
const SECRET_PATTERN =
  /((token|secret|password|passwd|bearer|basic|key|auth|credential)s?\w{0,30}["']?\s{0,5}[:=]).*$/i

export class ConfigReader {
  /** The path as it was given, for messages. */
  readonly file: string
  /** Absolute; undefined for a text without a path. */
  readonly path: string | undefined
  readonly folder: string
  readonly env: ConfigEnv
  readonly #text: string
  readonly #lines = new LineCounter()
  readonly #problems = new Map<string, Omit<ConfigProblem, 'snippet'> & TextSpan>()
  readonly #secrets: TextSpan[] = []
  readonly #values = new Map<YamlScalar, { value: YamlScalar['value']; substituted: boolean }>()
  readonly #substituted = new Set<string>()
  /** Offset from which the text is no valid YAML. */
  #invalidFrom = Number.POSITIVE_INFINITY
  #valueCount = 0

  /** @throws ConfigError when there is no such file */
  constructor(source: ConfigSource, env: ConfigEnv) {
    const path = typeof source === 'string' ? source : source.path
    this.file = toPrintable(path ?? 'the configuration')
    this.path = path === undefined ? undefined : resolve(path)
    this.folder = this.path === undefined ? process.cwd() : dirname(this.path)
    this.env = env
    this.#text = typeof source === 'string' ? this.#load(source) : source.text
    if (this.#text.length > MAX_FILE_SIZE) throw this.#unreadable('it is larger than 256 KiB')
  }

  #load(path: string): string {
    try {
      if (statRegularFile(path).size > MAX_FILE_SIZE) throw new Error('it is larger than 256 KiB')
      return readFileSync(path, 'utf8')
    } catch (error) {
      throw this.#unreadable(describeError(error))
    }
  }

  #unreadable(why: string): ConfigError {
    const message = `the file cannot be read: ${why}`
    return new ConfigError([
      { file: this.file, line: 0, column: 0, path: '', message, snippet: '' },
    ])
  }

  /**
   * Parses the file and returns the result of `read`.
   * @param empty result for an empty file; without it, an empty file is a mistake
   * @throws ConfigError with every mistake
   */
  run<T>(read: (tree: YamlTree) => T, empty?: T): T {
    let result: T | undefined
    try {
      const tree = parseYamlTree(this.#text, this.#lines, (at, message, hidden) => {
        if (message.startsWith('YAML')) this.#invalidFrom = Math.min(this.#invalidFrom, at.start)
        if (hidden) this.markSecret(hidden)
        this.reportProblem(at, '', message)
      })
      if (!tree && this.#problems.size === 0) {
        if (empty !== undefined) return empty
        throw this.#unreadable('it is empty')
      }
      if (tree) result = read(tree)
    } catch (error) {
      if (!(error instanceof ReadAborted)) throw error
    }
    if (this.#problems.size > 0) throw new ConfigError(this.#renderProblems())
    return result as T
  }

  /** Counts a value that is read. @throws ReadAborted beyond the limit */
  countValue(at: TextSpan): void {
    if (++this.#valueCount > MAX_VALUES) {
      this.reportProblem(
        at,
        '',
        `there are more than ${MAX_VALUES} values, aliases counted each time`,
      )
      throw new ReadAborted()
    }
  }

  reportProblem(at: TextSpan, path: string, message: string, allowed?: string): void {
    const { line, col } = this.#lines.linePos(at.start)
    const key = `${at.start} ${path} ${message}`
    this.#problems.set(key, {
      file: this.file,
      line: Math.max(1, line),
      column: Math.max(1, col),
      path: toPrintable(path),
      message: toPrintable(message),
      start: at.start,
      end: at.end,
      ...(allowed && { allowed: toPrintable(allowed) }),
    })
    if (this.#problems.size >= MAX_PROBLEMS) throw new ReadAborted()
  }

  get problemCount(): number {
    return this.#problems.size
  }

  /** No message and no snippet shows this span. */
  markSecret(at: TextSpan): void {
    this.#secrets.push(at)
  }

  /** The value of a scalar with `${...}` substituted; undefined if that failed, which was reported. */
  resolveScalar(
    node: YamlScalar,
    path: string,
  ): { value: YamlScalar['value']; substituted: boolean } | undefined {
    const known = this.#values.get(node)
    if (known) return known
    if (typeof node.value !== 'string' || !node.value.includes('${')) {
      return { value: node.value, substituted: false }
    }
    const { text, values, errors: wrong } = substitute(node.value, this)
    for (const why of wrong) this.reportProblem(node, path, `${path} ${why}`)
    if (wrong.length > 0) return undefined
    for (const value of values) this.#substituted.add(value)
    const read = { value: text, substituted: values.length > 0 }
    this.#values.set(node, read)
    return read
  }

  /** A message of other code. If it may quote a substituted text, it is replaced. */
  redact(message: string): string {
    for (const value of this.#substituted) {
      // A message may be cut, and a value in it may be escaped, so the first characters decide.
      const sign = JSON.stringify(value).slice(1, 7).replace(/"$/, '')
      if (sign.length > 0 && message.includes(sign)) {
        return 'are refused (the reason is not shown: it may quote a substituted text)'
      }
    }
    return message
  }

  #renderProblems(): ConfigProblem[] {
    // From an invalid place on, the tree of the parser is only a guess.
    const problems = [...this.#problems.values()].filter(
      ({ end, message }) => end < this.#invalidFrom || message.startsWith('YAML'),
    )
    problems.sort((a, b) => a.line - b.line || a.column - b.column)
    const text = this.#maskedLines()
    return problems.map(({ start, end, ...problem }) => {
      const { line, column, message } = problem
      const row = text(line)
      const quotes = message.startsWith('YAML') && row.includes('${') && QUOTES_HINT
      const to = column - 1 + Math.max(1, end - start)
      return {
        ...problem,
        ...(quotes && { allowed: quotes }),
        snippet: renderSnippet(row, line, column - 1, Math.min(to, row.length)),
      }
    })
  }

  /** Returns the lines of the file, with secrets masked. Each line is masked once. */
  #maskedLines(): (line: number) => string {
    const { lineStarts } = this.#lines
    const secrets = [...this.#secrets].sort((a, b) => a.start - b.start)
    const made = new Map<number, string>()
    return (line) => {
      let row = made.get(line)
      if (row === undefined) {
        const start = lineStarts[line - 1] ?? 0
        const end = lineStarts[line] ?? this.#text.length
        row = maskSpans(this.#text.slice(start, end), start, secrets).replace(/\r?\n$/, '')
        if (this.#invalidFrom < Number.POSITIVE_INFINITY)
          row = row.replace(SECRET_PATTERN, '$1 ***')
        made.set(line, row)
      }
      return row
    }
  }
}

/** A row that begins at offset `start`, with stars in place of the spans, which must be in order. */
function maskSpans(row: string, start: number, spans: readonly TextSpan[]): string {
  const end = start + row.length
  let masked = ''
  let at = start
  for (const span of spans) {
    const from = Math.max(at, span.start)
    const to = Math.min(end, span.end)
    if (from >= to) continue
    const hidden = row.slice(from - start, to - start).replace(/[^\r\n]/g, '*')
    masked += row.slice(at - start, from - start) + hidden
    at = to
  }
  return masked + row.slice(at - start)
}
