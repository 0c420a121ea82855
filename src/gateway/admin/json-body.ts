/** The JSON body of a call: bounded, and read to its end or not at all. */
import type { IncomingMessage } from 'node:http'
import { ManyhostError } from '../../core/errors.ts'

const MAX_BODY = 65_536
/** What is read and thrown away of a body that is too long, so that its sender gets to see the answer. */
const MAX_DISCARDED = 1_048_576

/**
 * @throws ManyhostError MANYHOST_INVALID_OPTION: 400 for what is no JSON object, 413 for more than 64 KiB, 415 for a
 * coded body
 */
export async function readJsonBody(request: IncomingMessage): Promise<Record<string, unknown>> {
  const coding = request.headers['content-encoding'] ?? 'identity'
  if (coding !== 'identity') throw bodyError(415, `a body without coding, got ${coding}`)
  const text = await readText(request)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw bodyError(400, text === '' ? 'a JSON object, got nothing' : 'a JSON object, got no JSON')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw bodyError(400, 'a JSON object')
  }
  return value as Record<string, unknown>
}

function readText(request: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let length = 0
    const tooLong = (): void => reject(bodyError(413, `at most ${MAX_BODY} bytes`))
    if (Number(request.headers['content-length'] ?? 0) > MAX_BODY) tooLong()
    request.on('data', (chunk: Buffer) => {
      length += chunk.length
      if (length <= MAX_BODY) chunks.push(chunk)
      else tooLong()
      if (length > MAX_DISCARDED) request.destroy()
    })
    request.once('end', () => resolve(Buffer.concat(chunks).toString('utf8')))
    request.once('close', () => reject(bodyError(400, 'a whole body, got a part of it')))
    request.once('error', () => reject(bodyError(400, 'a whole body, got a part of it')))
  })
}

function bodyError(status: number, expected: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `body: expected ${expected}`, { status })
}
