/** Starts a server on its address. */
import type { Server } from 'node:net'
import { describeError, ManyhostError } from './errors.ts'
import { formatListenAddress, type ListenAddress } from './listen-address.ts'
import { makeSocketPrivate } from './private-files.ts'

const LISTEN_ERRORS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'it is taken by another program',
  EACCES: 'this user has no permission to do so',
  EADDRNOTAVAIL: 'no such address on this machine',
  ENOENT: 'its folder does not exist',
  ENOTFOUND: 'no such host',
}

/**
 * Resolves when the server listens. A unix socket is made private: only our own user may connect.
 * @param what begins the message of the error: `wire`, `gateway: admin`
 * @throws ManyhostError MANYHOST_INVALID_OPTION, with the system's error as its cause
 */
export function listenOn(server: Server, address: ListenAddress, what: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let current = address
    const onError = (cause: NodeJS.ErrnoException): void => {
      if (cause.code === 'EAFNOSUPPORT' && 'host' in current && current.host === '::') {
        // A machine without IPv6: all its addresses are those of IPv4.
        current = { ...current, host: '0.0.0.0' }
        server.listen(current)
        return
      }
      server.off('error', onError)
      reject(createListenError(address, what, cause))
    }
    server.on('error', onError)
    server.once('listening', () => {
      server.off('error', onError)
      makeSocketPrivate(current)
      resolve()
    })
    server.listen(current)
  })
}

function createListenError(
  address: ListenAddress,
  what: string,
  cause: NodeJS.ErrnoException,
): ManyhostError {
  const why = LISTEN_ERRORS[cause.code ?? ''] ?? describeError(cause)
  const text = `${what}: cannot listen on ${formatListenAddress(address)}: ${why}`
  return new ManyhostError('MANYHOST_INVALID_OPTION', text, { cause })
}
