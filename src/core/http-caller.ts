/** Who calls an HTTP server of ours: what it knows, and what a page in a browser can be told by. Pure. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { isLoopback } from './options.ts'

/** Of a secret, to be compared with others by `isSame`. */
export function digestSecret(secret: string): Buffer {
  return createHash('sha256').update(secret).digest()
}

/** Equal in a time that tells nothing of where they differ: both are digests. */
export function isEqualDigest(a: Buffer, b: Buffer): boolean {
  return timingSafeEqual(a, b)
}

/** Equal in a time that tells nothing of where they differ, nor of their lengths. */
export function isSameSecret(a: string, b: string): boolean {
  return isEqualDigest(digestSecret(a), digestSecret(b))
}

/** The token of a header `Authorization: Bearer ...` (RFC 6750 section 2.1), empty where there is none. */
export function parseBearerToken(authorization: string | undefined): string {
  return /^bearer +(\S+) *$/i.exec(authorization ?? '')?.[1] ?? ''
}

/**
 * Whether the name in Host can only mean this machine, or is the address that was connected to. A page whose name was
 * bound anew to this machine calls it by a name that is neither.
 */
export function isLocalHostName(
  host: string | undefined,
  localAddress: string | undefined,
): boolean {
  if (!host || !/^[\w.:[\]-]+$/.test(host) || !URL.canParse(`http://${host}`)) return false
  const { hostname } = new URL(`http://${host}`)
  if (isLoopback(hostname) || hostname.endsWith('.localhost')) return true
  const address = (localAddress ?? '').replace(/^::ffff:(?=\d+\.)/, '')
  return address !== '' && (hostname === address || hostname === `[${address}]`)
}

/** Whether the page that calls, if it is one, came from the server that it calls. */
export function isSameOrigin(origin: string | undefined, host: string | undefined): boolean {
  if (origin === undefined) return true
  return URL.canParse(origin) && new URL(origin).host === host?.toLowerCase()
}
