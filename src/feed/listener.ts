/** Servers on their endpoints; certificates that are read again when they change. */
import { readFileSync, statSync, unlinkSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls'
import { describeError, ManyhostError } from '../core/errors.ts'
import { makeSocketPrivate } from '../core/private-files.ts'
import { every, type Timer } from '../core/time.ts'
import type { FeedTlsFiles, ParsedFeedEndpoint } from './endpoints.ts'

export interface FeedListener {
  /** `tcp://127.0.0.1:20000`, `tls://...`, `unix:/path`. */
  readonly url: string
  /** No new connection. */
  close(): void
}

/** How often certificates are looked at, in ms: a stat is cheap, and works where watching does not. */
const TLS_CHECK_INTERVAL_MS = 1_000
/** Milliseconds for the handshake of TLS. */
const TLS_HANDSHAKE_TIMEOUT_MS = 10_000

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export async function listen(
  { address: where, tls }: ParsedFeedEndpoint,
  onConnection: (socket: Socket) => void,
  onError: (error: Error) => void,
): Promise<FeedListener> {
  const server = tls
    ? createTlsServer(
        { ...loadTlsFiles(tls), handshakeTimeout: TLS_HANDSHAKE_TIMEOUT_MS, noDelay: true },
        onConnection,
      )
    : createServer({ noDelay: true }, onConnection)
  // A handshake that fails is the peer's: without a listener it is dropped, which is all there is to do.
  if ('path' in where) await removeStaleSocket(where.path)
  await listenOn(server, where)
  server.on('error', onError)
  const watch = tls && reloadTlsFilesOnChange(server as TlsServer, tls, onError)
  const close = (): void => {
    watch?.clear()
    server.close()
  }
  return { url: formatServerUrl(server, tls !== undefined), close }
}

function listenOn(server: Server, where: ParsedFeedEndpoint['address']): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (cause: Error): void => {
      const text = 'path' in where ? `unix:${where.path}` : `${where.host}:${where.port}`
      reject(createOptionError(`cannot listen on ${text}: ${describeError(cause)}`, cause))
    }
    server.once('error', onError)
    server.listen(where, () => {
      server.off('error', onError)
      makeSocketPrivate(where)
      resolve()
    })
  })
}

/** Removes the socket of a broker that was killed; one that somebody listens on stays, and is the error to come. */
async function removeStaleSocket(path: string): Promise<void> {
  try {
    if (!statSync(path).isSocket()) return
  } catch {
    return
  }
  const isDead = await new Promise<boolean>((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(false)
    })
    socket.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code === 'ECONNREFUSED'))
  })
  if (isDead) unlinkSync(path)
}

function loadTlsFiles({ cert, key }: FeedTlsFiles): {
  readonly cert: Buffer
  readonly key: Buffer
} {
  try {
    return { cert: readFileSync(cert), key: readFileSync(key) }
  } catch (cause) {
    throw createOptionError(`tls: ${describeError(cause)}`, cause)
  }
}

/** A pair that cannot be read, or does not fit, leaves the old one in use: the next look will tell. */
function reloadTlsFilesOnChange(
  server: TlsServer,
  files: FeedTlsFiles,
  onError: (error: Error) => void,
): Timer {
  const look = (): string =>
    [files.cert, files.key]
      .map((file) => statSync(file))
      .map(({ mtimeMs, size, ino }) => `${mtimeMs}/${size}/${ino}`)
      .join()
  let stamp = look()
  let complained = ''
  return every(TLS_CHECK_INTERVAL_MS, () => {
    let now = ''
    try {
      now = look()
      if (now === stamp) return
      server.setSecureContext(loadTlsFiles(files))
      stamp = now
    } catch (error) {
      if (now !== complained) onError(createOptionError(`tls: ${describeError(error)}`, error))
      complained = now
    }
  })
}

function formatServerUrl(server: Server, isTls: boolean): string {
  const address = server.address() as AddressInfo | string
  if (typeof address === 'string') return `unix:${address}`
  const host = address.family === 'IPv6' ? `[${address.address}]` : address.address
  return `${isTls ? 'tls' : 'tcp'}://${host}:${address.port}`
}

function createOptionError(message: string, cause: unknown): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `Feed: ${message}`, { cause })
}
