/** The URL under which a listening server is reached. */
import type { AddressInfo, Server } from 'node:net'

/** `http://127.0.0.1:8080`, or `unix:/path`. */
export function serverUrl(server: Server, isTls: boolean): string {
  const address = server.address() as AddressInfo | string
  if (typeof address === 'string') return `unix:${address}`
  const host = address.family === 'IPv6' ? `[${address.address}]` : address.address
  return `${isTls ? 'https' : 'http'}://${host}:${address.port}`
}
