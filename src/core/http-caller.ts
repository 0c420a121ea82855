/** Checks of the caller of an HTTP server: its secret, and whether it is a page of another site in a browser. Pure. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { isLoopback } from './options.ts'

/** The digest of a secret, for `isEqualDigest`. */
export function digestSecret(secret: string): Buffer {
  return createHash('sha256').update(secret).digest()
}

/** Compares two digests in a time that does not depend on where they differ. */
export function isEqualDigest(a: Buffer, b: Buffer): boolean {
  return timingSafeEqual(a, b)
}

/** Compares two secrets in a time that depends neither on where they differ nor on their lengths. */
export function isSameSecret(a: string, b: string): boolean {
  return isEqualDigest(digestSecret(a), digestSecret(b))
}

/** The token of a header `Authorization: Bearer ...` (RFC 6750 section 2.1); empty if there is none. */
export function parseBearerToken(authorization: string | undefined): string {
  return /^bearer +(\S+) *$/i.exec(authorization ?? '')?.[1] ?? ''
}

/**
 * Whether the name in `Host` can only mean this machine, or is the address of this end of the connection. A page of another
 * site that has pointed its own name to this machine (DNS rebinding) sends a name that is neither.
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

/** Whether a caller that is a page in a browser came from the server that it calls. True for other callers. */
export function isSameOrigin(origin: string | undefined, host: string | undefined): boolean {
  if (origin === undefined) return true
  return URL.canParse(origin) && new URL(origin).host === host?.toLowerCase()
}
