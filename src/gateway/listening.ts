/** Lets servers listen, and explains why one cannot. */
import type { AddressInfo, Server } from 'node:net'
import { describeError, ManyhostError } from '../core/errors.ts'
import { formatListenAddress, type ListenAddress } from '../core/listen-address.ts'
import { makeSocketPrivate } from '../core/private-files.ts'

/**
 * Resolves when the server listens.
 * @param what begins the message of the error
 * @throws ManyhostError MANYHOST_INVALID_OPTION, with the system's error as its cause
 */
export function listenOn(server: Server, address: ListenAddress, what: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (cause: NodeJS.ErrnoException): void => {
      const text = `${what}: cannot listen on ${formatListenAddress(address)}: ${LISTEN_ERRORS[cause.code ?? ''] ?? describeError(cause)}`
      reject(new ManyhostError('MANYHOST_INVALID_OPTION', text, { cause }))
    }
    server.once('error', onError)
    server.listen(address, () => {
      server.off('error', onError)
      makeSocketPrivate(address)
      resolve()
    })
  })
}

const LISTEN_ERRORS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'it is taken by another program',
  EACCES: 'this user has no permission',
  EADDRNOTAVAIL: 'no such address on this machine',
  ENOENT: 'its folder does not exist',
  ENOTFOUND: 'no such host',
}

/** `http://127.0.0.1:8080`, or `unix:/path`. */
export function serverUrl(server: Server, isTls: boolean): string {
  const address = server.address() as AddressInfo | string
  if (typeof address === 'string') return `unix:${address}`
  const host = address.family === 'IPv6' ? `[${address.address}]` : address.address
  return `${isTls ? 'https' : 'http'}://${host}:${address.port}`
}
