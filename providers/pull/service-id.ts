/** The id of the service that a virtual URL stands for. Pure. */
import { createHash } from 'node:crypto'

/** A version 5 UUID (RFC 9562 section 5.5): the same text has the same id, before and after a restart. */
export function deriveServiceId(url: string): string {
  const namespace = Buffer.from('6ba7b8119dad11d180b400c04fd430c8', 'hex')
  const hash = createHash('sha1').update(namespace).update(url).digest().subarray(0, 16)
  hash[6] = ((hash[6] as number) & 0x0f) | 0x50
  hash[8] = ((hash[8] as number) & 0x3f) | 0x80
  return hash.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
