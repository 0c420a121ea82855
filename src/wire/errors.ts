/** The errors that several files of the wire make. */
import { ManyhostError } from '../core/errors.ts'

/** The peer broke the protocol. */
export function createProtocolError(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_WIRE_PROTOCOL', message)
}

/** A method was called in a stage of the conversation, or of the link, that does not allow it. */
export function createStageError(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_WIRE_STAGE', message)
}

/** Landed code contains something that must not be landed; `what` names it. */
export function createNotAllowedError(what: string): ManyhostError {
  return new ManyhostError('MANYHOST_WIRE_CODE', `${what} is not allowed in landed code`)
}

/** The peer could not prove that it has the key, or no proof could be asked for. */
export function createAuthError(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_WIRE_AUTH', message)
}
