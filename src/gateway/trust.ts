/** Which clients are proxies whose word on the way so far is taken. */
import { BlockList, isIPv4, isIPv6 } from 'node:net'

/** @returns whether a client's address is one of these addresses and networks. */
export function createTrustCheck(networks: readonly string[]): (client: string) => boolean {
  if (networks.length === 0) return () => false
  const list = new BlockList()
  for (const network of networks) {
    const [host = '', bits] = network.split('/')
    const version = isIPv4(host) ? 'ipv4' : 'ipv6'
    if (bits === undefined) list.addAddress(host, version)
    else list.addSubnet(host, Number(bits), version)
  }
  // A connection asks for each of its requests; connections from the same proxy come again and again.
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

/** The address of a client; one of version 4 that came to a socket of version 6 without the prefix. */
export function clientAddressOf(socket: { readonly remoteAddress?: string | undefined }): string {
  const { remoteAddress = 'unknown' } = socket
  return remoteAddress.startsWith('::ffff:') ? remoteAddress.slice(7) : remoteAddress
}
