/** Starts a server on its address. */
import type { Server } from 'node:net'
import { describeError, ManyhostError } from '../core/errors.ts'
import { makeSocketPrivate } from './private-files.ts'

/** As `server.listen` of node:net takes it. */
export type ServerAddress =
  | { readonly host: string; readonly port: number }
  | { readonly path: string }

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
export function listenOn(server: Server, address: ServerAddress, what: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (cause: NodeJS.ErrnoException): void =>
      reject(createListenError(address, what, cause))
    server.once('error', onError)
    server.listen(address, () => {
      server.off('error', onError)
      makeSocketPrivate(address)
      resolve()
    })
  })
}

function createListenError(
  address: ServerAddress,
  what: string,
  cause: NodeJS.ErrnoException,
): ManyhostError {
  const where = 'path' in address ? `unix:${address.path}` : formatHostPort(address)
  const why = LISTEN_ERRORS[cause.code ?? ''] ?? describeError(cause)
  const text = `${what}: cannot listen on ${where}: ${why}`
  return new ManyhostError('MANYHOST_INVALID_OPTION', text, { cause })
}

function formatHostPort({ host, port }: { readonly host: string; readonly port: number }): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}
