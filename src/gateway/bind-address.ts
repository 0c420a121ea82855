/** Where a server listens. */

import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import { isLoopback } from '../core/options.ts'

export type GatewayListen =
  | string
  | { readonly host?: string; readonly port: number }
  | { readonly path: string }

/** As node:net takes it. */
export type BindAddress =
  | { readonly host: string; readonly port: number }
  | { readonly path: string }

export const BIND_ADDRESS_FORMS = "'host:port', ':port', 'unix:/path', { host, port } or { path }"

/** What node:net listens on, or undefined for what is no address. */
export function parseBindAddress(given: unknown): BindAddress | undefined {
  if (typeof given === 'object' && given !== null) {
    const { host = '127.0.0.1', port, path } = given as Record<string, unknown>
    if (typeof path === 'string' && path !== '') return { path }
    return typeof host === 'string' && isPort(port) ? { host, port } : undefined
  }
  if (typeof given !== 'string') return undefined
  if (given.startsWith('unix:') && given.length > 5) return { path: given.slice(5) }
  const match = /^(?:\[([0-9a-f:.]+)\]|([\w.-]*)):(\d+)$/i.exec(given)
  const port = Number(match?.[3])
  if (!match || !isPort(port)) return undefined
  return { host: match[1] ?? (match[2] || '127.0.0.1'), port }
}

/** Whether only this machine gets there. */
export function isLoopbackAddress(where: BindAddress): boolean {
  return 'path' in where || isLoopback(where.host)
}

function isPort(port: unknown): port is number {
  return Number.isInteger(port) && (port as number) >= 0 && (port as number) <= 65_535
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function requireBindAddress(given: unknown): BindAddress {
  const found = parseBindAddress(given)
  if (found) return found
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `gateway: listen must be ${BIND_ADDRESS_FORMS}, got ${describe(given)}`,
  )
}
