/** One call of the API, and what the routes have in common. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Registry } from 'prom-client'
import { ManyhostError } from '../../core/errors.ts'
import type { Session } from '../../session/session.ts'
import type { Hub } from './hub.ts'
import type { Outflows } from './outflow.ts'
import type { Reply } from './reply.ts'
import type { Restarts } from './restarts.ts'

/** What the routes act on. */
export interface Admin {
  readonly session: Session
  readonly metrics: Registry
  readonly version: string
  readonly isReady: () => boolean
  readonly hub: Hub
  readonly outflows: Outflows
  readonly restarts: Restarts
}

export interface Call {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** Variables of the path, decoded. */
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  /** False for a caller without the token, on a route that is open to all. */
  readonly isTrusted: boolean
  readonly admin: Admin
}

/** undefined: the route has taken the response over. */
export type Answer = (call: Call) => Reply | undefined | Promise<Reply | undefined>

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function flag({ query }: Call, name: string): boolean {
  const value = query.get(name)
  if (value === null || value === '0' || value === 'false') return false
  if (value === '' || value === '1' || value === 'true') return true
  throw invalid(`${name}: expected 1 or 0, got ${JSON.stringify(value)}`)
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function count({ query }: Call, name: string): number | undefined {
  const value = query.get(name)
  if (value === null) return undefined
  if (!/^\d{1,6}$/.test(value) || Number(value) === 0) {
    throw invalid(`${name}: expected a whole number from 1 to 999999, got ${JSON.stringify(value)}`)
  }
  return Number(value)
}

export function invalid(text: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', text)
}
