/** Listens on an endpoint, and reads the certificate files again when they change. */
import { readFileSync, statSync, unlinkSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls'
import { describeError, ManyhostError } from '../core/errors.ts'
import { fileFingerprint } from '../core/fingerprint.ts'
import { formatServerUrl } from '../core/http/server-url.ts'
import { listenOn } from '../core/listen.ts'
import { every, type Timer } from '../core/time.ts'
import type { FeedTlsFiles, ParsedFeedEndpoint } from './endpoints.ts'

export interface FeedListener {
  /** `tcp://127.0.0.1:20000`, `tls://...`, `unix:/path`. */
  readonly url: string
  /** Accepts no new connection. */
  close(): void
}

/** How often the certificate files are checked: a stat is cheap, and works where watching does not. */
const TLS_CHECK_INTERVAL_MS = 1_000
const TLS_HANDSHAKE_TIMEOUT_MS = 10_000

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export async function listen(
  { address, tls }: ParsedFeedEndpoint,
  onConnection: (socket: Socket) => void,
  onError: (error: Error) => void,
): Promise<FeedListener> {
  const server = tls
    ? createTlsServer(
        { ...loadTlsFiles(tls), handshakeTimeout: TLS_HANDSHAKE_TIMEOUT_MS, noDelay: true },
        onConnection,
      )
    : createServer({ noDelay: true }, onConnection)
  // A TLS handshake that fails has no listener: Node drops the connection, and nothing else is to be done.
  if ('path' in address) await removeStaleSocket(address.path)
  await listenOn(server, address, 'Feed')
  server.on('error', onError)
  const timer = tls && reloadTlsFilesOnChange(server as TlsServer, tls, onError)
  const close = (): void => {
    timer?.clear()
    server.close()
  }
  return { url: formatServerUrl(server, tls ? 'tls' : 'tcp'), close }
}

/** Removes the socket of a broker that was killed. If a process listens on it, it stays, and listening will fail. */
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

/** Files that cannot be read, or that do not belong together, leave the old certificate in use until the next change. */
function reloadTlsFilesOnChange(
  server: TlsServer,
  files: FeedTlsFiles,
  onError: (error: Error) => void,
): Timer {
  const readFingerprint = (): string =>
    [files.cert, files.key].map((file) => fileFingerprint(statSync(file))).join()
  let inUse = readFingerprint()
  let reported = ''
  return every(TLS_CHECK_INTERVAL_MS, () => {
    let current = ''
    try {
      current = readFingerprint()
      if (current === inUse) return
      server.setSecureContext(loadTlsFiles(files))
      inUse = current
    } catch (error) {
      if (current !== reported) onError(createOptionError(`tls: ${describeError(error)}`, error))
      reported = current
    }
  })
}

function createOptionError(message: string, cause: unknown): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `Feed: ${message}`, { cause })
}
