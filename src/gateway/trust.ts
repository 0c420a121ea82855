/** Which clients are proxies whose forwarding headers are trusted. */
import { BlockList, isIPv4, isIPv6 } from 'node:net'

/** Returns a function that tells whether the address of a client is in one of these networks. */
export function createTrustCheck(networks: readonly string[]): (client: string) => boolean {
  if (networks.length === 0) return () => false
  const list = new BlockList()
  for (const network of networks) {
    const [host = '', bits] = network.split('/')
    const version = isIPv4(host) ? 'ipv4' : 'ipv6'
    if (bits === undefined) list.addAddress(host, version)
    else list.addSubnet(host, Number(bits), version)
  }
  // It is asked for each request, and the same few proxies connect again and again.
  const known = new Map<string, boolean>()
  return (client) => {
    let trusted = known.get(client)
    if (trusted === undefined) {
      trusted = isIPv4(client) ? list.check(client) : isIPv6(client) && list.check(client, 'ipv6')
      if (known.size >= 1_000) known.clear()
      known.set(client, trusted)
    }
    return trusted
  }
}

/** The address of a client; without the prefix of an IPv4 address that connected to an IPv6 socket. */
export function clientAddressOf(socket: { readonly remoteAddress?: string | undefined }): string {
  const { remoteAddress = 'unknown' } = socket
  return remoteAddress.startsWith('::ffff:') ? remoteAddress.slice(7) : remoteAddress
}
