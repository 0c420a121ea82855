/** The error of a hosted conversation, encoded for its poster: as a literal, so that it is parsed as safely as all code. */
import { asError, ERRORS, type ErrorCode, ManyhostError } from '../core/errors.ts'
import { LiteralReader } from './literal.ts'
import { repr } from './repr.ts'

/** Longest message of an encoded error, in characters. */
const MAX_MESSAGE_LENGTH = 4_096

/** The name, code and message of the error, without its stack. `limit` is the maximum size of a packet, in bytes. */
export function encodeError(thrown: unknown, limit: number): string {
  const error = asError(thrown)
  const message = String(error.message).slice(
    0,
    Math.max(16, Math.min(MAX_MESSAGE_LENGTH, limit >> 4)),
  )
  const code = (error as { code?: unknown }).code
  return repr({
    name: String(error.name).slice(0, 64),
    message,
    code: typeof code === 'string' ? code : undefined,
  })
}

/** The error that the peer encoded. */
export function decodeError(text: string): ManyhostError {
  let decoded: Partial<Record<string, unknown>> = {}
  try {
    const value = new LiteralReader(text, () => undefined).readValue()
    if (typeof value === 'object' && value !== null) decoded = value as typeof decoded
  } catch {
    // The text is unreadable, but that there was an error is known.
  }
  const message = String(decoded.message ?? 'the peer sent no message').slice(0, MAX_MESSAGE_LENGTH)
  const code = String(decoded.code ?? '')
  if (Object.hasOwn(ERRORS, code)) {
    return new ManyhostError(code as ErrorCode, message, {
      retryable: ERRORS[code as ErrorCode].retryable,
    })
  }
  const name = String(decoded.name ?? 'Error')
  const cause = Object.assign(new Error(message), { name, ...(code && { code }) })
  return new ManyhostError(
    'MANYHOST_WIRE_REMOTE',
    `the peer's function threw ${name}: ${message}`,
    { cause },
  )
}
