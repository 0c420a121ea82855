/** Where a broker listens: our notation, and the original's. Pure, but for the addresses of a device. */
import { isIPv6 } from 'node:net'
import { networkInterfaces } from 'node:os'
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'

export interface FeedTlsFiles {
  /** Paths of PEM files; they are read again when they change. */
  readonly cert: string
  readonly key: string
}

export type FeedEndpoint =
  | string
  | { readonly host?: string; readonly port: number; readonly tls?: FeedTlsFiles }
  | { readonly path: string }

/** As node:net takes it, and the files of TLS. */
export interface ParsedFeedEndpoint {
  readonly address: { readonly host: string; readonly port: number } | { readonly path: string }
  readonly tls: FeedTlsFiles | undefined
}

const ENDPOINT_FORMS =
  "'host:port', '[::1]:port', 'unix:/path', 'tcp:interface=HOST:port=PORT', 'tls:interface=HOST:port=PORT:key=FILE:cert=FILE', { host, port, tls: { cert, key } } or { path }"
const LOOPBACK = '127.0.0.1'

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseEndpoint(given: FeedEndpoint): ParsedFeedEndpoint {
  const parsed = typeof given === 'string' ? parseEndpointText(given) : parseEndpointObject(given)
  if (parsed) return parsed
  throw createOptionError(`an endpoint is ${ENDPOINT_FORMS}, got ${describe(given)}`)
}

function parseEndpointObject(given: unknown): ParsedFeedEndpoint | undefined {
  if (typeof given !== 'object' || given === null) return undefined
  const { host = LOOPBACK, port, path, tls, ...others } = given as Record<string, unknown>
  if (Object.keys(others).length > 0) return undefined
  if (typeof path === 'string' && path !== '') return { address: { path }, tls: undefined }
  if (typeof host !== 'string' || host === '' || !isPort(port)) return undefined
  if (tls === undefined) return { address: { host, port }, tls: undefined }
  const files = tls as Partial<FeedTlsFiles> | null
  const isWhole = typeof files?.cert === 'string' && typeof files.key === 'string'
  return isWhole ? { address: { host, port }, tls: files as FeedTlsFiles } : undefined
}

function parseEndpointText(text: string): ParsedFeedEndpoint | undefined {
  if (text.startsWith('unix:/')) return { address: { path: text.slice(5) }, tls: undefined }
  if (/^(tcp|tls):.*=/.test(text)) return parseTwistedEndpoint(text)
  const match = /^(?:\[([0-9a-f:.]+)\]|([\w.-]*)):(\d{1,5})$/i.exec(text)
  const port = Number(match?.[3])
  if (!match || !isPort(port) || (match[1] && !isIPv6(match[1]))) return undefined
  return { address: { host: match[1] ?? (match[2] || LOOPBACK), port }, tls: undefined }
}

/** `tls:interface=1.1.1.1:port=443:key=path:cert=path`, where `\:` is a colon. */
function parseTwistedEndpoint(text: string): ParsedFeedEndpoint {
  const [kind, ...tokens] = text.split(/(?<!\\):/)
  const values = new Map<string, string>()
  for (const token of tokens) {
    const at = token.indexOf('=')
    const key = token.slice(0, Math.max(0, at))
    if (!['interface', 'port', 'device', 'key', 'cert'].includes(key) || values.has(key)) {
      throw createOptionError(
        `endpoint ${describe(text)}: ${describe(token)} is not interface=, port=, device=, key= or cert=`,
      )
    }
    values.set(key, token.slice(at + 1).replaceAll('\\:', ':'))
  }
  const port = Number(values.get('port') ?? Number.NaN)
  if (!isPort(port))
    throw createOptionError(`endpoint ${describe(text)}: port must be from 0 to 65535`)
  const device = values.get('device')
  // The narrower of the two: `interface=0.0.0.0:device=eth0` is that device alone.
  const host =
    device === undefined ? (values.get('interface') ?? LOOPBACK) : findDeviceAddress(device)
  const key = values.get('key')
  const cert = values.get('cert')
  if (kind === 'tcp' && key === undefined && cert === undefined) {
    return { address: { host, port }, tls: undefined }
  }
  if (kind === 'tcp' || !key || !cert) {
    throw createOptionError(
      `endpoint ${describe(text)}: tls needs key= and cert=, tcp takes neither`,
    )
  }
  return { address: { host, port }, tls: { cert, key } }
}

/** Node cannot bind to a device: its first address, IPv4 before IPv6, stands for it. */
function findDeviceAddress(device: string): string {
  const addresses = networkInterfaces()[device] ?? []
  const first = addresses.find(({ family }) => family === 'IPv4') ?? addresses[0]
  if (first) return first.address
  const known = Object.keys(networkInterfaces()).join(', ')
  throw createOptionError(
    `endpoint: there is no device ${describe(device)} with an address; known: ${known}`,
  )
}

function isPort(port: unknown): port is number {
  return Number.isInteger(port) && (port as number) >= 0 && (port as number) <= 65_535
}

function createOptionError(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `Feed: ${message}`)
}
