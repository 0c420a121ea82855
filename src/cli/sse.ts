/** Reads a stream of server-sent events. */

export interface ServerSentEvent {
  readonly name: string
  readonly data: string
}

/** The events of a response body. Ends when the body ends. */
export async function* readEvents(
  body: AsyncIterable<Uint8Array>,
): AsyncGenerator<ServerSentEvent> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true })
    const blocks = rest.split('\n\n')
    rest = blocks.pop() ?? ''
    for (const block of blocks) {
      const event = parseEvent(block)
      if (event) yield event
    }
  }
}

function parseEvent(block: string): ServerSentEvent | undefined {
  let name = 'message'
  const data: string[] = []
  for (const row of block.split('\n')) {
    if (row.startsWith('event: ')) name = row.slice(7)
    else if (row.startsWith('data: ')) data.push(row.slice(6))
  }
  return data.length > 0 ? { name, data: data.join('\n') } : undefined
}
