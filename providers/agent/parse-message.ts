/** What a peer says, taken for what it is meant to be or refused. */

import { ManyhostError } from '../../src/core/errors.ts'
import { createDict } from '../../src/core/null-prototype.ts'
import type { Exit, ListenOn } from '../../src/core/provider.ts'

function createProtocolError(what: string, value: unknown): ManyhostError {
  return new ManyhostError('MANYHOST_WIRE_PROTOCOL', `${what} expected, got ${typeof value}`)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function parseText(value: unknown, maxLength = 1_024): string {
  if (typeof value === 'string' && value.length <= maxLength) return value
  throw createProtocolError(`a text of at most ${maxLength} characters`, value)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function parseCount(value: unknown): number {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value
  throw createProtocolError('a number from 0 up', value)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function parseTexts(value: unknown): string[] {
  if (Array.isArray(value) && value.every((one) => typeof one === 'string')) return value
  throw createProtocolError('a list of texts', value)
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
  const given = parseFields(value)
  if (Object.values(given).every((one) => typeof one === 'string')) {
    return createDict(given as Record<string, string>)
  }
  throw createProtocolError('an object of texts', value)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function parseListenOn(value: unknown): ListenOn {
  const { host, port, socketPath } = parseFields(value)
  return typeof socketPath === 'string'
    ? { socketPath: parseText(socketPath) }
    : { host: parseText(host), port: parseCount(port) }
}

const EXIT_REASONS = ['exited', 'killed', 'out-of-memory', 'lost', 'stopped']

/** Reasons are labels of metrics: an agent makes no new ones. @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function parseExit(value: unknown): Exit {
  const { reason, detail } = parseFields(value)
  return {
    reason: EXIT_REASONS.includes(reason as string) ? (reason as string) : 'exited',
    detail: parseText(detail, 10_000),
  }
}
