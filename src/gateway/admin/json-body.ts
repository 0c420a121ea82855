/** Reads the JSON body of a call: limited in size, and either whole or refused. */
import type { IncomingMessage } from 'node:http'
import { ManyhostError } from '../../core/errors.ts'

const MAX_BODY = 65_536
/** Bytes of a body that is too long which are read and discarded, so that its sender gets the response. */
const MAX_DISCARDED = 1_048_576

/**
 * @throws ManyhostError MANYHOST_INVALID_OPTION: 400 if it is not a JSON object, 413 for more than 64 KiB, 415 for a
 * content coding
 */
export async function readJsonBody(request: IncomingMessage): Promise<Record<string, unknown>> {
  const coding = request.headers['content-encoding'] ?? 'identity'
  if (coding !== 'identity') throw bodyError(415, `a body without a content coding, got ${coding}`)
  const text = await readText(request)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw bodyError(
      400,
      text === '' ? 'a JSON object, got nothing' : 'a JSON object, got something that is not JSON',
    )
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
    request.once('close', () => reject(bodyError(400, 'a complete body, got a part of it')))
    request.once('error', () => reject(bodyError(400, 'a complete body, got a part of it')))
  })
}

function bodyError(status: number, expected: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `body: expected ${expected}`, { status })
}
