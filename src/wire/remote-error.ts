/** The error of a conversation on its way to the poster: as a literal, so that it is read as safely as all else. */
import { asError, ERRORS, type ErrorCode, ManyhostError } from '../core/errors.ts'
import { LiteralReader } from './literal.ts'
import { repr } from './repr.ts'

/** Longest message of an error that travels, in characters. */
const MAX_MESSAGE_LENGTH = 4_096

/** What the poster is told: name, code and message, and no stack. */
export function encodeError(thrown: unknown, limit: number): string {
  const error = asError(thrown)
  const message = String(error.message).slice(
    0,
    Math.max(16, Math.min(MAX_MESSAGE_LENGTH, limit >> 4)),
  )
  const code = (error as { code?: unknown }).code
  const told = {
    name: String(error.name).slice(0, 64),
    message,
    code: typeof code === 'string' ? code : undefined,
  }
  return repr(told)
}

/** The error that the peer told of. */
export function decodeError(text: string): ManyhostError {
  let told: Partial<Record<string, unknown>> = {}
  try {
    const value = new LiteralReader(text, () => undefined).readValue()
    if (typeof value === 'object' && value !== null) told = value as typeof told
  } catch {
    // What it says is of no use; that there was an error is.
  }
  const message = String(told.message ?? 'the peer says nothing of it').slice(0, MAX_MESSAGE_LENGTH)
  const code = String(told.code ?? '')
  if (Object.hasOwn(ERRORS, code)) {
    return new ManyhostError(code as ErrorCode, message, {
      retryable: ERRORS[code as ErrorCode].retryable,
    })
  }
  const name = String(told.name ?? 'Error')
  const cause = Object.assign(new Error(message), { name, ...(code && { code }) })
  return new ManyhostError(
    'MANYHOST_WIRE_REMOTE',
    `the peer's function threw ${name}: ${message}`,
    { cause },
  )
}
