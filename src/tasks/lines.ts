/** Lines of bytes or texts, one at a time, each with its number; what is no line says so and the rest goes on. */
import { isUtf8 } from 'node:buffer'
import type { NewTask } from './task.ts'

export interface SourceLine {
  /** 1, 2, ...; for a source of items, the item. */
  readonly number: number
  readonly text: string | NewTask
  /** Why it cannot be read; `text` is empty then. */
  readonly problem?: string
}

type Item = string | NewTask | Uint8Array

/**
 * Bytes are cut at newlines, `\r\n` as well; an item that is a text is a line. Nothing beyond `longest` bytes of one
 * line is kept.
 */
export async function* linesOf(
  source: Iterable<Item> | AsyncIterable<Item>,
  longest: number,
): AsyncGenerator<SourceLine> {
  const cutter = new Cutter(longest)
  let number = 0
  for await (const item of source) {
    if (item instanceof Uint8Array) {
      for (const line of cutter.feed(item)) yield { number: ++number, ...line }
    } else if (typeof item === 'string') {
      yield { number: ++number, ...ofText(item, longest) }
    } else {
      yield { number: ++number, text: item }
    }
  }
  for (const line of cutter.rest()) yield { number: ++number, ...line }
}

type Content = Omit<SourceLine, 'number'>

function ofText(item: string, longest: number): Content {
  if (item.length > longest || Buffer.byteLength(item) > longest) return tooLong(longest)
  // A line of a file that was read by somebody else may have kept its end.
  return { text: item.replace(/\r?\n$/, '') }
}

class Cutter {
  readonly #longest: number
  #held: Uint8Array[] = []
  #size = 0
  #isTooLong = false

  constructor(longest: number) {
    this.#longest = longest
  }

  *feed(chunk: Uint8Array): Generator<Content> {
    let from = 0
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      this.#add(chunk.subarray(from, at))
      yield this.#take()
      from = at + 1
    }
    if (from < chunk.length) this.#add(chunk.subarray(from))
  }

  /** The last line, which may have no newline. */
  *rest(): Generator<Content> {
    if (this.#size > 0 || this.#isTooLong) yield this.#take()
  }

  #add(bytes: Uint8Array): void {
    this.#size += bytes.length
    // One more than the longest is room for the `\r`.
    if (this.#size > this.#longest + 1) {
      this.#isTooLong = true
      this.#held = []
    } else {
      this.#held.push(bytes)
    }
  }

  #take(): Content {
    const isTooLong = this.#isTooLong
    const bytes =
      this.#held.length === 1 ? (this.#held[0] as Uint8Array) : Buffer.concat(this.#held)
    this.#held = []
    this.#size = 0
    this.#isTooLong = false
    if (isTooLong) return tooLong(this.#longest)
    if (!isUtf8(bytes)) return { text: '', problem: 'it is not UTF-8' }
    const end = bytes.at(-1) === 13 ? bytes.length - 1 : bytes.length
    return { text: Buffer.from(bytes.buffer, bytes.byteOffset, end).toString('utf8') }
  }
}

function tooLong(longest: number): Content {
  return { text: '', problem: `it is longer than ${longest} bytes` }
}
