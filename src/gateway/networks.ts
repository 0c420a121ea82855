/** IP addresses and networks as text. Pure. */
import { isIP } from 'node:net'

/** An IP address, or a network such as `10.0.0.0/8`. */
export function isAddressOrNetwork(text: string): boolean {
  const [host = '', bits, ...more] = text.split('/')
  const version = isIP(host)
  if (version === 0 || more.length > 0) return false
  if (bits === undefined) return true
  return /^\d{1,3}$/.test(bits) && Number(bits) <= (version === 4 ? 32 : 128)
}
