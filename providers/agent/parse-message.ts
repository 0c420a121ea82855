/** Parts of a peer's message. Each function returns the value in the type that is expected, or throws. */
import { describe } from '../../src/core/describe.ts'
import { ManyhostError } from '../../src/core/errors.ts'
import { createDict } from '../../src/core/null-prototype.ts'
import type { Exit, ListenOn } from '../../src/core/provider.ts'

function createProtocolError(expected: string, value: unknown): ManyhostError {
  const got = describe(value).slice(0, 200)
  return new ManyhostError('MANYHOST_WIRE_PROTOCOL', `expected ${expected}, got ${got}`)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function parseText(value: unknown, maxLength = 1_024): string {
  if (typeof value === 'string' && value.length <= maxLength) return value
  throw createProtocolError(`a string of at most ${maxLength} characters`, value)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function parseCount(value: unknown): number {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value
  throw createProtocolError('a number from 0 up', value)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function parseTexts(value: unknown): string[] {
  if (Array.isArray(value) && value.every((one) => typeof one === 'string')) return value
  throw createProtocolError('a list of strings', value)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function parseFields(value: unknown): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>
  }
  throw createProtocolError('an object', value)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function parseTextFields(value: unknown): Record<string, string> {
  const fields = parseFields(value)
  if (Object.values(fields).every((one) => typeof one === 'string')) {
    return createDict(fields as Record<string, string>)
  }
  throw createProtocolError('an object of strings', value)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function parseListenOn(value: unknown): ListenOn {
  const { host, port, socketPath } = parseFields(value)
  return typeof socketPath === 'string'
    ? { socketPath: parseText(socketPath) }
    : { host: parseText(host), port: parseCount(port) }
}

/** The code of an operating system's error, such as `ECONNREFUSED`. An unknown one counts as that. */
export function parseErrno(value: unknown): string {
  return typeof value === 'string' && /^E[A-Z]{2,20}$/.test(value) ? value : 'ECONNREFUSED'
}

const EXIT_REASONS = ['exited', 'killed', 'out-of-memory', 'lost', 'stopped']

/**
 * A reason is a label of metrics, so an agent cannot introduce new ones: an unknown reason counts as `exited`.
 * @throws ManyhostError MANYHOST_WIRE_PROTOCOL
 */
export function parseExit(value: unknown): Exit {
  const { reason, detail } = parseFields(value)
  return {
    reason: EXIT_REASONS.includes(reason as string) ? (reason as string) : 'exited',
    detail: parseText(detail, 10_000),
  }
}
