/** Reads lines from bytes or texts, one at a time, each with its number. A line that cannot be read has a problem; the rest goes on. */
import { isUtf8 } from 'node:buffer'
import type { NewTask } from '../model/task.ts'

export interface SourceLine {
  /** 1, 2, ...: the number of the line; for a source of items, that of the item. */
  readonly number: number
  readonly text: string | NewTask
  /** Why the line cannot be read. `text` is empty then. */
  readonly problem?: string
}

type SourceItem = string | NewTask | Uint8Array

/**
 * Cuts bytes at `\n` and `\r\n`. An item that is a text is one line. At most `longest` bytes of a line are kept in memory.
 */
export async function* readLines(
  source: Iterable<SourceItem> | AsyncIterable<SourceItem>,
  longest: number,
): AsyncGenerator<SourceLine> {
  const cutter = new LineCutter(longest)
  let number = 0
  const numbered = (line: LineContent): SourceLine => {
    const { text } = line
    const isMarked = ++number === 1 && typeof text === 'string' && text.startsWith(BOM)
    return { number, ...line, ...(isMarked && { text: text.slice(BOM.length) }) }
  }
  for await (const item of source) {
    if (item instanceof Uint8Array) {
      for (const line of cutter.push(item)) yield numbered(line)
    } else if (typeof item === 'string') {
      yield numbered(lineFromText(item, longest))
    } else {
      yield numbered({ text: item })
    }
  }
  for (const line of cutter.flush()) yield numbered(line)
}

/** A byte order mark, which some editors put before the first line of a text in UTF-8. It does not belong to the line. */
const BOM = '\ufeff'

type LineContent = Omit<SourceLine, 'number'>

function lineFromText(item: string, longest: number): LineContent {
  if (item.length > longest || Buffer.byteLength(item) > longest) return tooLong(longest)
  // A program that read the file itself may have left the end of the line on it.
  return { text: item.replace(/\r?\n$/, '') }
}

class LineCutter {
  readonly #longest: number
  #pending: Uint8Array[] = []
  #size = 0
  #isTooLong = false
  #isFirst = true

  constructor(longest: number) {
    this.#longest = longest
  }

  *push(chunk: Uint8Array): Generator<LineContent> {
    let from = 0
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      this.#add(chunk.subarray(from, at))
      yield this.#take()
      from = at + 1
    }
    if (from < chunk.length) this.#add(chunk.subarray(from))
  }

  /** Takes the last line, which may have no newline. */
  *flush(): Generator<LineContent> {
    if (this.#size > 0 || this.#isTooLong) yield this.#take()
  }

  #add(bytes: Uint8Array): void {
    this.#size += bytes.length
    // The `\r` of `\r\n` is not part of the line, so one more byte fits.
    if (this.#size > this.#longest + 1) {
      this.#isTooLong = true
      this.#pending = []
    } else {
      this.#pending.push(bytes)
    }
  }

  #take(): LineContent {
    const isTooLong = this.#isTooLong
    const bytes =
      this.#pending.length === 1 ? (this.#pending[0] as Uint8Array) : Buffer.concat(this.#pending)
    this.#pending = []
    this.#size = 0
    this.#isTooLong = false
    const isFirst = this.#isFirst
    this.#isFirst = false
    if (isTooLong) return tooLong(this.#longest)
    if (!isUtf8(bytes)) return { text: '', problem: explainNotUtf8(bytes, isFirst) }
    const end = bytes.at(-1) === 13 ? bytes.length - 1 : bytes.length
    return { text: Buffer.from(bytes.buffer, bytes.byteOffset, end).toString('utf8') }
  }
}

/** Only the beginning of a source may have a byte order mark. */
function explainNotUtf8([first, second]: Uint8Array, isFirst: boolean): string {
  const isUtf16 =
    isFirst && ((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff))
  return isUtf16
    ? 'it is not UTF-8, but UTF-16, as its byte order mark says: convert it with iconv -f UTF-16 -t UTF-8'
    : 'it is not UTF-8'
}

function tooLong(longest: number): LineContent {
  return { text: '', problem: `it is longer than ${longest} bytes` }
}
