/** One call of the API, with the helpers that routes share. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Registry } from 'prom-client'
import { ManyhostError } from '../../core/errors.ts'
import type { SessionCore } from '../../session/session.ts'
import type { AdminEventStream } from './event-stream.ts'
import type { AdminReply } from './reply.ts'
import type { ManualRestarts } from './restarts.ts'
import type { AdminStreamWriters } from './stream-writer.ts'

/** What the routes use. */
export interface AdminContext {
  readonly session: SessionCore
  readonly metrics: Registry
  readonly version: string
  readonly isReady: () => boolean
  readonly events: AdminEventStream
  readonly streams: AdminStreamWriters
  readonly restarts: ManualRestarts
}

export interface AdminCall {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** Variables of the path, percent-decoded. */
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  /** False for a caller without the token, on a route that needs none. */
  readonly isTrusted: boolean
  readonly admin: AdminContext
}

/** Returns undefined if the route has taken over the response. */
export type AdminRouteHandler = (
  call: AdminCall,
) => AdminReply | undefined | Promise<AdminReply | undefined>

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseFlag({ query }: AdminCall, name: string): boolean {
  const value = query.get(name)
  if (value === null || value === '0' || value === 'false') return false
  if (value === '' || value === '1' || value === 'true') return true
  throw invalidQuery(`${name}: expected 1 or 0, got ${JSON.stringify(value)}`)
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseCount({ query }: AdminCall, name: string): number | undefined {
  const value = query.get(name)
  if (value === null) return undefined
  if (!/^\d{1,6}$/.test(value) || Number(value) === 0) {
    throw invalidQuery(
      `${name}: expected a whole number from 1 to 999999, got ${JSON.stringify(value)}`,
    )
  }
  return Number(value)
}

export function invalidQuery(text: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', text)
}
