/** Where a server listens. */
import { ManyhostError } from '../core/errors.ts'
import { isLoopback, show } from '../core/options.ts'

export type Listen =
  | string
  | { readonly host?: string; readonly port: number }
  | { readonly path: string }

/** As node:net takes it. */
export type Address = { readonly host: string; readonly port: number } | { readonly path: string }

export const ADDRESSES = "'host:port', ':port', 'unix:/path', { host, port } or { path }"

/** What node:net listens on, or undefined for what is no address. */
export function address(given: unknown): Address | undefined {
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
export function isLocal(where: Address): boolean {
  return 'path' in where || isLoopback(where.host)
}

function isPort(port: unknown): port is number {
  return Number.isInteger(port) && (port as number) >= 0 && (port as number) <= 65_535
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function mustBeAddress(given: unknown): Address {
  const found = address(given)
  if (found) return found
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `gateway: listen must be ${ADDRESSES}, got ${show(given)}`,
  )
}
