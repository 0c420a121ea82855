/** Streams of JSON objects, one on each line, as engines send their events. */
import type { Readable } from 'node:stream'

/** Longest line that is kept, in characters. */
const MAX_LINE = 1_048_576

/** Lines that are no JSON object, or too long, are left out. Throws when the stream fails; ends when the stream ends. */
export async function* readJsonLines(stream: Readable): AsyncGenerator<Record<string, unknown>> {
  const decoder = new TextDecoder()
  let text = ''
  for await (const chunk of stream) {
    text += decoder.decode(chunk as Buffer, { stream: true })
    const parts = text.split('\n')
    text = parts.pop() ?? ''
    if (text.length > MAX_LINE) text = ''
    for (const part of parts) {
      const value = parseJsonObject(part)
      if (value) yield value
    }
  }
}

/** Undefined for a text that is no JSON object. */
export function parseJsonObject(text: string): Record<string, unknown> | undefined {
  try {
    const value = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
  } catch {
    return undefined
  }
}
