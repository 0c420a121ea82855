/** What processes write: decoded as it comes, and never kept beyond a bound. */
import type { Readable } from 'node:stream'

/** Reads `stream` to its end, whoever listens or not: a process whose pipe is full would stand still. */
export function forwardText(stream: Readable, sink: (text: string) => void): void {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  const pass = (text: string): void => {
    if (text !== '') sink(text)
  }
  stream.on('data', (chunk: Buffer) => pass(decoder.decode(chunk, { stream: true })))
  stream.once('end', () => pass(decoder.decode()))
  stream.on('error', () => {})
}

/** The last `limit` characters of a text that may have no end. */
export class OutputTail {
  readonly #limit: number
  #text = ''

  constructor(limit: number) {
    this.#limit = limit
  }

  add(text: string): void {
    this.#text += text
    // At twice the limit, so that what is cut is copied once a limit and not once a chunk.
    if (this.#text.length > 2 * this.#limit) this.#text = this.#text.slice(-this.#limit)
  }

  get text(): string {
    return this.#text.slice(-this.#limit)
  }
}

/** The last line that says something, for an error's message. */
export function lastOutputLine(text: string): string {
  return text.trimEnd().split('\n').at(-1)?.trim().slice(0, 200) ?? ''
}
