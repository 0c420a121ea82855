/** Addresses that servers listen on: one notation for code, files and command lines. Pure. */
import { isIPv6 } from 'node:net'
import { describe } from './describe.ts'
import { ManyhostError } from './errors.ts'
import { isLoopback } from './options.ts'

/** What a caller may give. Without a host it is this machine only. */
export type ListenOption =
  | string
  | number
  | { readonly host?: string; readonly port: number }
  | { readonly path: string }

/** A TCP address or a unix socket, in the form that `server.listen` of node:net takes. */
export type ListenAddress =
  | { readonly host: string; readonly port: number }
  | { readonly path: string }

/** The forms of a text or a number, for messages and docs. */
export const LISTEN_TEXT_FORMS =
  "'host:port', ':port' or a port (this machine only), '*:port' (all addresses), or 'unix:/path'"

const THIS_MACHINE = '127.0.0.1'
/** Takes connections by IPv4 as well. */
const ALL_ADDRESSES = '::'
const MAX_TEXT_LENGTH = 300

/**
 * - `'10.0.0.1:8080'`, `'name:8080'`, `'[::1]:8080'`: that address
 * - `':8080'`, `8080`, `{ port: 8080 }`: 127.0.0.1, so that only this machine can connect
 * - `'*:8080'`, `'0.0.0.0:8080'`: every address of this machine
 * - `'unix:/run/x.sock'`, `{ path: '/run/x.sock' }`: a unix socket
 *
 * Undefined for anything else.
 */
export function parseListenAddress(given: unknown): ListenAddress | undefined {
  if (typeof given === 'number') return toTcpAddress(THIS_MACHINE, given)
  if (typeof given === 'object' && given !== null) {
    const { host = THIS_MACHINE, port, path } = given as Record<string, unknown>
    if (typeof path === 'string' && path !== '') return { path }
    return typeof host === 'string' ? toTcpAddress(host, port) : undefined
  }
  return typeof given === 'string' ? parseText(given) : undefined
}

function parseText(text: string): ListenAddress | undefined {
  if (text.length > MAX_TEXT_LENGTH) return undefined
  if (text.startsWith('unix:/')) return { path: text.slice(5) }
  const match = /^(?:\[([0-9a-f:.]+(?:%[\w.-]+)?)\]|([\w.-]*|\*)):(\d{1,5})$/i.exec(text)
  if (!match) return undefined
  const [, bracketed, name = '', port] = match
  if (bracketed !== undefined && !isIPv6(bracketed)) return undefined
  const host = bracketed ?? (name === '*' ? ALL_ADDRESSES : name || THIS_MACHINE)
  return toTcpAddress(host, Number(port))
}

function toTcpAddress(host: string, port: unknown): ListenAddress | undefined {
  if (host === '*') return toTcpAddress(ALL_ADDRESSES, port)
  return host !== '' && isPort(port) ? { host, port } : undefined
}

/** Whether a value is the number of a TCP port; 0 lets the system choose one. */
export function isPort(port: unknown): port is number {
  return Number.isInteger(port) && (port as number) >= 0 && (port as number) <= 65_535
}

/**
 * As `parseListenAddress`, for a value that must be an address.
 * @param name begins the message: `gateway: listen`
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function requireListenAddress(name: string, given: unknown): ListenAddress {
  const address = parseListenAddress(given)
  if (address) return address
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `${name} must be ${LISTEN_TEXT_FORMS}, { host, port } or { path }, got ${describe(given)}`,
  )
}

/** Whether only this machine can connect. */
export function isLoopbackAddress(address: ListenAddress): boolean {
  return 'path' in address || isLoopback(address.host)
}

/** The address as text, for messages: `127.0.0.1:8080`, `[::1]:8080`, `unix:/path`. */
export function formatListenAddress(address: ListenAddress): string {
  if ('path' in address) return `unix:${address.path}`
  const { host, port } = address
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}
