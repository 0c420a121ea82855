/** The output of processes, as text. */
import type { Readable } from 'node:stream'

/** Reads `stream` to its end and passes its text on. A process whose pipe nobody reads would stand still. */
export function forwardText(stream: Readable, sink: (text: string) => void): void {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  const pass = (text: string): void => {
    if (text !== '') sink(text)
  }
  stream.on('data', (chunk: Buffer) => pass(decoder.decode(chunk, { stream: true })))
  stream.once('end', () => pass(decoder.decode()))
  stream.on('error', () => {})
}

/** The last line that is not empty, for the message of an error. */
export function lastOutputLine(text: string): string {
  return text.trimEnd().split('\n').at(-1)?.trim().slice(0, 200) ?? ''
}
