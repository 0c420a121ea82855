/** Ids of services. Pure. */
import { createHash } from 'node:crypto'

/** The namespace of URLs (RFC 9562 section 6.6). */
const URL_NAMESPACE = '6ba7b8119dad11d180b400c04fd430c8'

export const CANONICAL_UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/**
 * The id of the service that a virtual URL stands for: a version 5 UUID (RFC 9562 section 5.5). It is the same before and
 * after a restart, and on every machine.
 */
export function deriveServiceId(url: string): string {
  const namespace = Buffer.from(URL_NAMESPACE, 'hex')
  const hash = createHash('sha1').update(namespace).update(url).digest().subarray(0, 16)
  hash[6] = ((hash[6] as number) & 0x0f) | 0x50
  hash[8] = ((hash[8] as number) & 0x3f) | 0x80
  return hash.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
