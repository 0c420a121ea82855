/**
 * How a line becomes a command: `convert {} {-}.png`. The forms are HyperShell's. A brace that is none of them stays
 * as it is, so that `awk '{print $1}'` needs no quoting.
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

/** What a template is filled in with. */
export interface TemplateInput {
  readonly args: string
  readonly tag?: Tags
  /** Number of the place that runs the task, 1, 2, ...; without one `{slot}` is a failure. */
  readonly slot?: number
  /** Runs a command of `{% ... %}` and resolves with its output; without it these are a failure. */
  readonly shell?: (command: string) => Promise<string>
}

/** A template that cannot be read, or a line that does not fit it: the task ends with status -2 and this message. */
export class TemplateError extends Error {
  override readonly name = 'TemplateError'
}

export interface CommandTemplate {
  readonly text: string
  /** Whether the command is the line itself. */
  readonly isPlain: boolean
  /** Whether it has `{% %}` or `{slot}`, which only who runs the task can fill in. */
  readonly needsRunner: boolean
  /**
   * Without `{% %}` the answer comes at once.
   * @throws TemplateError, or rejects with it
   */
  expand(filling: TemplateInput): string | Promise<string>
}

type TemplatePart = string | ((filling: TemplateInput) => string | Promise<string>)

/** The forms without braces of their own inside. */
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
 * Reads a template once for all its lines.
 * @throws TemplateError
 */
export function compileTemplate(text: string): CommandTemplate {
  if (text.length > LONGEST_TEMPLATE) {
    throw new TemplateError(`a template has at most ${LONGEST_TEMPLATE} characters`)
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
    expand: (filling) => (isPlain ? filling.args : joinParts(parts, filling)),
  }
}

/** Where forms begin and end, and what they are. Each character is looked at a few times at most. */
function* parseForms(text: string): Generator<[at: number, end: number, part: TemplatePart]> {
  // Up to where closings were looked for in vain.
  const hopeless: Record<string, boolean> = {}
  let at = text.indexOf('{')
  while (at >= 0) {
    let end = at + 1
    const kind = text[at + 1] as string
    if (kind === '%' || kind === '=') {
      const close = hopeless[kind] ? -1 : text.indexOf(`${kind}}`, at + 2)
      if (close < 0) hopeless[kind] = true
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

/** `{[i]}`, `{[i:j]}`, `{[i:j:k]}` over the words of the line, with negative ones as in Python. */
function createSlicePart(whole: string, slice: string): TemplatePart {
  const bounds = slice.split(':').map((one) => one.trim())
  const isRight = bounds.length <= 3 && bounds.every((one) => /^[+-]?\d{1,9}$|^$/.test(one))
  // `{[a-z]}` is a pattern of somebody else's, such as the shell's.
  if (!isRight || slice.trim() === '') return whole
  const [i, j, k] = bounds.map((one) => (one === '' ? undefined : Number(one)))
  if (k === 0) throw new TemplateError(`${whole}: the step of a slice is not 0`)
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
  if (command === '') throw new TemplateError(`${whole}: there is no command`)
  return async ({ args, shell }) => {
    if (!shell) throw new TemplateError(`${whole}: no commands are run here`)
    try {
      // As `$( )` does: newlines at the end are none of the text's.
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

/** A line that is a number is a number to expressions, a whole one exactly. */
function coerceLine(args: string): string | number | bigint {
  const text = args.trim()
  if (/^[+-]?\d{1,300}$/.test(text) && !Number.isSafeInteger(Number(text))) {
    return BigInt(text.replace(/^\+/, ''))
  }
  return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(text) ? Number(text) : args
}

/** `{name}`: a tag of the task, or `{slot}`. What is no tag stays, for it may be the shell's. */
function createNamePart(name: string, whole: string): TemplatePart {
  return ({ tag, slot }) => {
    if (tag && Object.hasOwn(tag, name)) return String(tag[name] ?? '')
    if (name !== 'slot') return whole
    if (slot === undefined) throw new TemplateError(`{slot}: there is no place yet`)
    return String(slot)
  }
}

function joinParts(
  parts: readonly TemplatePart[],
  filling: TemplateInput,
): string | Promise<string> {
  const made = parts.map((part) => (typeof part === 'string' ? part : part(filling)))
  if (made.every((one) => typeof one === 'string')) return checkCommandLength(made.join(''))
  return Promise.all(made).then((all) => checkCommandLength(all.join('')))
}

function checkCommandLength(command: string): string {
  if (command.length <= LONGEST_COMMAND) return command
  throw new TemplateError(`the command has more than ${LONGEST_COMMAND} characters`)
}

function shorten(args: string): string {
  return JSON.stringify(args.length > 80 ? `${args.slice(0, 77)}...` : args)
}
