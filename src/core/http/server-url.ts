/** The URL of a server that listens. */
import type { Server } from 'node:net'

/** `http://127.0.0.1:8080`, with the port that the system chose where it was to be any; `unix:/path` for a unix socket. */
export function formatServerUrl(server: Pick<Server, 'address'>, scheme: string): string {
  const address = server.address()
  if (address === null || typeof address === 'string') return `unix:${address}`
  const host = address.family === 'IPv6' ? `[${address.address}]` : address.address
  return `${scheme}://${host}:${address.port}`
}
