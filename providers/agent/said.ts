/** What a peer says, taken for what it is meant to be or refused. */

import { dict } from '../../src/core/dict.ts'
import { ManyhostError } from '../../src/core/errors.ts'
import type { Exit, ListenOn } from '../../src/core/provider.ts'

function refused(what: string, value: unknown): ManyhostError {
  return new ManyhostError('MANYHOST_WIRE_PROTOCOL', `${what} expected, got ${typeof value}`)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function text(value: unknown, longest = 1_024): string {
  if (typeof value === 'string' && value.length <= longest) return value
  throw refused(`a text of at most ${longest} characters`, value)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function count(value: unknown): number {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value
  throw refused('a number from 0 up', value)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function texts(value: unknown): string[] {
  if (Array.isArray(value) && value.every((one) => typeof one === 'string')) return value
  throw refused('a list of texts', value)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function fields(value: unknown): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>
  }
  throw refused('an object', value)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function textFields(value: unknown): Record<string, string> {
  const given = fields(value)
  if (Object.values(given).every((one) => typeof one === 'string')) {
    return dict(given as Record<string, string>)
  }
  throw refused('an object of texts', value)
}

/** @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function listenOn(value: unknown): ListenOn {
  const { host, port, socketPath } = fields(value)
  return typeof socketPath === 'string'
    ? { socketPath: text(socketPath) }
    : { host: text(host), port: count(port) }
}

const REASONS = ['exited', 'killed', 'out-of-memory', 'lost', 'stopped']

/** Reasons are labels of metrics: an agent makes no new ones. @throws ManyhostError MANYHOST_WIRE_PROTOCOL */
export function exit(value: unknown): Exit {
  const { reason, detail } = fields(value)
  return {
    reason: REASONS.includes(reason as string) ? (reason as string) : 'exited',
    detail: text(detail, 10_000),
  }
}
