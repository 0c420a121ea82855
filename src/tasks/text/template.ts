/**
 * Makes commands from lines: `convert {} {-}.png`. The forms are HyperShell's. Any other brace stays as it is, so that
 * `awk '{print $1}'` needs no quoting.
 */
import { posix } from 'node:path'
import { describeError } from '../../core/errors.ts'
import type { Tags } from '../model/task.ts'
import { compileExpression, type Expression } from './expression.ts'
import { extensionOf } from './expression-functions.ts'
import { ExpressionError, valueToText } from './expression-operators.ts'
import { takeSlice } from './python-slice.ts'

/** The exit status of a task whose template failed. */
export const TEMPLATE_FAILED = -2

/** Longest template, and longest command made of one, in characters. */
export const LONGEST_TEMPLATE = 1_048_576
export const LONGEST_COMMAND = 4_194_304

/** The values that a template is expanded with. */
export interface TemplateInput {
  readonly args: string
  readonly tag?: Tags
  /** Number of the slot that runs the task, 1, 2, .... Without it, `{slot}` is an error. */
  readonly slot?: number
  /** Runs the command of a form `{% ... %}` and resolves with its output. Without it, such a form is an error. */
  readonly shell?: (command: string) => Promise<string>
}

/** A template is invalid, or a line does not fit it. The task then ends with status -2 and this message. */
export class TemplateError extends Error {
  override readonly name = 'TemplateError'
}

export interface CommandTemplate {
  readonly text: string
  /** Whether the command is the line itself, unchanged. */
  readonly isPlain: boolean
  /** Whether it has `{% %}` or `{slot}`, which only the runner can expand. */
  readonly needsRunner: boolean
  /**
   * Returns a promise only for a template with `{% %}`.
   * @throws TemplateError, or rejects with it
   */
  expand(input: TemplateInput): string | Promise<string>
}

type TemplatePart = string | ((input: TemplateInput) => string | Promise<string>)

/** All forms that have no braces inside: slices, paths and names. */
const FORM = /\{(?:\[([^\]{}]*)\]|(\.\.?|\/-?|-|\+\+?|)|([A-Za-z0-9_.+-]{1,120}))\}/y

const PATHS: Readonly<Record<string, (args: string) => string>> = {
  '': (args) => args,
  '.': (args) => posix.dirname(args),
  '..': (args) => posix.dirname(posix.dirname(args)),
  '/': (args) => posix.basename(args),
  '/-': (args) => posix.parse(args).name,
  '-': (args) => args.slice(0, args.length - extensionOf(args).length),
  '+': extensionOf,
  '++': (args) => extensionOf(args).slice(1),
}

/**
 * Compiles a template once for all its lines.
 * @throws TemplateError
 */
export function compileTemplate(text: string): CommandTemplate {
  if (text.length > LONGEST_TEMPLATE) {
    throw new TemplateError(
      `a template can have at most ${LONGEST_TEMPLATE} characters, got ${text.length}`,
    )
  }
  const parts: TemplatePart[] = []
  let from = 0
  let needsRunner = false
  for (const [at, end, part] of parseForms(text)) {
    const form = text.slice(at, at + 2)
    if (form === '{%' || text.slice(at, end) === '{slot}') needsRunner = true
    if (at > from) parts.push(text.slice(from, at))
    parts.push(part)
    from = end
  }
  if (from < text.length) parts.push(text.slice(from))
  const isPlain = text === '{}'
  return {
    text,
    isPlain,
    needsRunner,
    expand: (input) => (isPlain ? input.args : joinParts(parts, input)),
  }
}

/** Finds the forms of a template. The time is linear in its length. */
function* parseForms(text: string): Generator<[at: number, end: number, part: TemplatePart]> {
  // Kinds of forms that are not closed anywhere in the rest of the text.
  const neverClosed: Record<string, boolean> = {}
  let at = text.indexOf('{')
  while (at >= 0) {
    let end = at + 1
    const kind = text[at + 1] as string
    if (kind === '%' || kind === '=') {
      const close = neverClosed[kind] ? -1 : text.indexOf(`${kind}}`, at + 2)
      if (close < 0) neverClosed[kind] = true
      else {
        end = close + 2
        const [inside, whole] = [text.slice(at + 2, close), text.slice(at, end)]
        const part =
          kind === '%' ? createShellPart(inside.trim(), whole) : createExpressionPart(inside, whole)
        yield [at, end, part]
      }
    } else {
      FORM.lastIndex = at
      const match = FORM.exec(text)
      if (match) {
        end = at + match[0].length
        yield [at, end, createPart(match)]
      }
    }
    at = text.indexOf('{', end)
  }
}

function createPart(match: RegExpExecArray): TemplatePart {
  const [whole, slice, path, name] = match
  if (slice !== undefined) return createSlicePart(whole, slice)
  if (path !== undefined) {
    const how = PATHS[path] as (args: string) => string
    return ({ args }) => how(args)
  }
  return createNamePart(name as string, whole)
}

/** `{[i]}`, `{[i:j]}` and `{[i:j:k]}` take words of the line. Numbers may be negative, as in Python. */
function createSlicePart(whole: string, slice: string): TemplatePart {
  const bounds = slice.split(':').map((one) => one.trim())
  const isRight = bounds.length <= 3 && bounds.every((one) => /^[+-]?\d{1,9}$|^$/.test(one))
  // Something else, such as the shell's pattern `{[a-z]}`, stays as it is.
  if (!isRight || slice.trim() === '') return whole
  const [i, j, k] = bounds.map((one) => (one === '' ? undefined : Number(one)))
  if (k === 0) throw new TemplateError(`${whole}: the step of a slice must not be 0`)
  if (bounds.length === 1) {
    const at = i as number
    return ({ args }) => {
      const words = splitWords(args)
      const word = words.at(at)
      if (word === undefined || at < -words.length) {
        throw new TemplateError(`${whole}: the line has ${words.length} words: ${shorten(args)}`)
      }
      return word
    }
  }
  return ({ args }) => takeSlice(splitWords(args), i, j, k ?? 1).join(' ')
}

function splitWords(args: string): string[] {
  return args.trim() === '' ? [] : args.trim().split(/\s+/)
}

function createShellPart(command: string, whole: string): TemplatePart {
  if (command === '') throw new TemplateError(`${whole}: the command is empty`)
  return async ({ args, shell }) => {
    if (!shell) throw new TemplateError(`${whole}: commands of a template are not run here`)
    try {
      // Like `$( )`, this removes newlines at the end of the output.
      return (await shell(command.replaceAll('@', () => args))).replace(/[\r\n]+$/, '')
    } catch (error) {
      throw new TemplateError(`${whole}: ${describeError(error)}`, { cause: error })
    }
  }
}

function createExpressionPart(text: string, whole: string): TemplatePart {
  const compiled = compileTemplateExpression(text, whole)
  return ({ args }) => {
    try {
      return valueToText(compiled.evaluate({ x: coerceLine(args) }))
    } catch (error) {
      if (!(error instanceof ExpressionError)) throw error
      throw new TemplateError(`${whole} of ${shorten(args)}: ${error.message}`, { cause: error })
    }
  }
}

function compileTemplateExpression(text: string, whole: string): Expression {
  try {
    return compileExpression(text)
  } catch (error) {
    throw new TemplateError(`${whole}: ${describeError(error)}`, { cause: error })
  }
}

/** A line that is written as a number is a number in expressions. Whole numbers are exact. */
function coerceLine(args: string): string | number | bigint {
  const text = args.trim()
  if (/^[+-]?\d{1,300}$/.test(text) && !Number.isSafeInteger(Number(text))) {
    return BigInt(text.replace(/^\+/, ''))
  }
  return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(text) ? Number(text) : args
}

/** `{name}` is a tag of the task, or `{slot}`. Any other name stays as it is, because it may be meant for the shell. */
function createNamePart(name: string, whole: string): TemplatePart {
  return ({ tag, slot }) => {
    if (tag && Object.hasOwn(tag, name)) return String(tag[name] ?? '')
    if (name !== 'slot') return whole
    if (slot === undefined) throw new TemplateError('{slot}: the task has no slot before it runs')
    return String(slot)
  }
}

function joinParts(parts: readonly TemplatePart[], input: TemplateInput): string | Promise<string> {
  const made = parts.map((part) => (typeof part === 'string' ? part : part(input)))
  if (made.every((one) => typeof one === 'string')) return checkCommandLength(made.join(''))
  return Promise.all(made).then((all) => checkCommandLength(all.join('')))
}

function checkCommandLength(command: string): string {
  if (command.length <= LONGEST_COMMAND) return command
  throw new TemplateError(
    `the command can have at most ${LONGEST_COMMAND} characters, got ${command.length}`,
  )
}

function shorten(args: string): string {
  return JSON.stringify(args.length > 80 ? `${args.slice(0, 77)}...` : args)
}
