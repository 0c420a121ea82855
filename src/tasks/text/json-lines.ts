/**
 * Reads the objects of a text of JSON: one per line; or a list of them, as `list --json` prints it; or each over many lines,
 * as `info --json` and `jq` print them.
 */
import { parseJson } from './exact-json.ts'
import type { SourceLine } from './lines.ts'

/** An object, or why there is none. `number` is the line where it begins, `last` the last line that was read for it. */
export interface JsonItem {
  readonly number: number
  readonly last: number
  readonly value?: unknown
  readonly problem?: string
}

/** Items that are not text are passed on as they are: a program may give whole tasks. */
export async function* readJsonItems(
  lines: AsyncIterable<SourceLine>,
  longest: number,
): AsyncGenerator<JsonItem | SourceLine> {
  const open = new JsonObjectReader(longest)
  for await (const line of lines) {
    const { number, text, problem } = line
    if (problem !== undefined || typeof text !== 'string') {
      yield* open.finish()
      yield line
    } else if (!open.isOpen) {
      yield* readFirstLine(open, number, text)
    } else {
      yield* open.add(number, text)
    }
  }
  yield* open.finish()
}

function* readFirstLine(open: JsonObjectReader, number: number, line: string): Generator<JsonItem> {
  const text = line.trim()
  // Such a line stands between the objects of a list.
  if (/^[[\],]?$/.test(text)) return
  // A pretty printer puts the brace that opens an object on a line of its own. A cut-off line of JSON has more than that.
  if (/^[[,\s]*\{$/.test(text)) return open.begin(number)
  const whole = tryParseJson(text)
  if ('value' in whole) return yield* yieldItems(number, whole.value)
  const inside = tryParseJson(text.replace(/^\[|^,/, '').replace(/,$|\]$/, ''))
  const found = 'value' in inside ? inside : { problem: whole.problem }
  yield { number, last: number, ...found }
}

function* yieldItems(number: number, value: unknown): Generator<JsonItem> {
  if (!Array.isArray(value)) return yield { number, last: number, value }
  if (value.length === 0) yield { number, last: number, problem: 'the list has no task' }
  for (const [index, one] of value.entries()) {
    // The line counts as read with its last task, so that a restart after this line loses no task.
    const last = index === value.length - 1 ? number : number - 1
    yield { number, last, value: one }
  }
}

/** Collects the lines of one object until its braces are closed. */
class JsonObjectReader {
  readonly #longest: number
  #number = 0
  #last = 0
  #lines: string[] = []
  #size = 0
  #depth = 0

  constructor(longest: number) {
    this.#longest = longest
  }

  get isOpen(): boolean {
    return this.#depth > 0
  }

  begin(number: number): void {
    this.#number = number
    this.#last = number
    this.#lines = ['{']
    this.#size = 1
    this.#depth = 1
  }

  *add(number: number, line: string): Generator<JsonItem> {
    this.#last = number
    this.#size += line.length + 1
    if (this.#size > this.#longest) {
      yield { ...this.#lineNumbers, problem: `it is longer than ${this.#longest} bytes` }
      this.#depth = 0
      return
    }
    this.#lines.push(line)
    // Braces inside of texts do not count. A text ends on the line where it began.
    for (const [token] of line.matchAll(/"(?:[^"\\]+|\\.)*"|[{}]/g)) {
      if (token === '{') this.#depth++
      if (token === '}' && --this.#depth === 0) break
    }
    if (this.#depth > 0) return
    const text = this.#lines.join('\n')
    const found = tryParseJson(text.slice(0, text.lastIndexOf('}') + 1))
    yield { ...this.#lineNumbers, ...found }
  }

  /** To be called where the source ends, or something that is not a line of text comes. */
  *finish(): Generator<JsonItem> {
    if (this.isOpen) yield { ...this.#lineNumbers, problem: 'it is not JSON: an object has no end' }
    this.#depth = 0
  }

  get #lineNumbers(): Pick<JsonItem, 'number' | 'last'> {
    return { number: this.#number, last: this.#last }
  }
}

function tryParseJson(text: string): { value: unknown } | { problem: string } {
  try {
    return { value: parseJson(text) }
  } catch (error) {
    return { problem: `it is not JSON: ${(error as Error).message}` }
  }
}
