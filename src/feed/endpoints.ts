/** The addresses that a broker listens on, in our notation and in the original's. Pure, except for the addresses of a device. */
import { networkInterfaces } from 'node:os'
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import { isPort, type ListenAddress, parseListenAddress } from '../core/listen-address.ts'

export interface FeedTlsFiles {
  /** Paths of PEM files. They are read again when they change. */
  readonly cert: string
  readonly key: string
}

export type FeedEndpoint =
  | string
  | { readonly host?: string; readonly port: number; readonly tls?: FeedTlsFiles }
  | { readonly path: string }

/** An address for node:net, and the files of TLS. */
export interface ParsedFeedEndpoint {
  readonly address: ListenAddress
  readonly tls: FeedTlsFiles | undefined
}

const ENDPOINT_FORMS =
  "'host:port', ':port' (this machine only), '*:port' (all addresses), '[::1]:port', 'unix:/path', 'tcp:interface=HOST:port=PORT', 'tls:interface=HOST:port=PORT:key=FILE:cert=FILE', { host, port, tls: { cert, key } } or { path }"
const LOOPBACK = '127.0.0.1'

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseEndpoint(given: FeedEndpoint): ParsedFeedEndpoint {
  const parsed = typeof given === 'string' ? parseEndpointText(given) : parseEndpointObject(given)
  if (parsed) return parsed
  throw createOptionError(`an endpoint must be ${ENDPOINT_FORMS}, got ${describe(given)}`)
}

function parseEndpointObject(given: unknown): ParsedFeedEndpoint | undefined {
  if (typeof given !== 'object' || given === null) return undefined
  const { host, port, path, tls, ...others } = given as Record<string, unknown>
  if (Object.keys(others).length > 0) return undefined
  const address = parseListenAddress({ host, port, path })
  if (!address || tls === undefined || 'path' in address)
    return address && { address, tls: undefined }
  const files = tls as Partial<FeedTlsFiles> | null
  const isComplete = typeof files?.cert === 'string' && typeof files.key === 'string'
  return isComplete ? { address, tls: files as FeedTlsFiles } : undefined
}

function parseEndpointText(text: string): ParsedFeedEndpoint | undefined {
  if (/^(tcp|tls):.*=/.test(text)) return parseTwistedEndpoint(text)
  const address = parseListenAddress(text)
  return address && { address, tls: undefined }
}

/** The original's notation, Twisted's: `tls:interface=1.1.1.1:port=443:key=path:cert=path`, where `\:` is a colon. */
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
  // The device wins, because it is narrower: `interface=0.0.0.0:device=eth0` means that device alone.
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

/** Node cannot bind to a device, so that its first address is used instead, IPv4 before IPv6. */
function findDeviceAddress(device: string): string {
  const addresses = networkInterfaces()[device] ?? []
  const first = addresses.find(({ family }) => family === 'IPv4') ?? addresses[0]
  if (first) return first.address
  const known = Object.keys(networkInterfaces()).join(', ')
  throw createOptionError(
    `endpoint: no device ${describe(device)} with an address; known devices: ${known}`,
  )
}

function createOptionError(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `Feed: ${message}`)
}
