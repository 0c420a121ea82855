/** The HTTP server of the API, where it has a port of its own. */
import { readFileSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import { guardConnections, serverOptions } from '../../src/core/http/http-server.ts'
import { formatServerUrl } from '../../src/core/http/server-url.ts'
import { listenOn } from '../../src/core/listen.ts'
import { formatListenAddress, type ListenAddress } from '../../src/core/listen-address.ts'

/** Connections at a time; more are not accepted. A worker that waits for a job holds one. */
const MAX_CONNECTIONS = 20_000

export interface PullApiServer {
  /** `http://127.0.0.1:5000`, or `unix:/path`. */
  readonly url: string
  close(): Promise<void>
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export async function startApiServer(
  listen: ListenAddress,
  tls: { readonly cert: string; readonly key: string } | undefined,
  listener: RequestListener,
): Promise<PullApiServer> {
  const where = formatListenAddress(listen)
  // Limits the time for reading a request. The answer may take as long as the long poll.
  const options = serverOptions({ requestTimeout: 30_000 })
  try {
    const server = tls
      ? createTlsServer(
          { ...options, cert: readFileSync(tls.cert), key: readFileSync(tls.key) },
          listener,
        )
      : createServer(options, listener)
    guardConnections(server, { connections: MAX_CONNECTIONS })
    await listenOn(server, listen, 'workers')
    return { url: toLocalUrl(server, Boolean(tls)), close: () => closeServer(server) }
  } catch (error) {
    if (error instanceof ManyhostError) throw error
    const text = `workers: cannot listen on ${where}: ${describeError(error)}`
    throw new ManyhostError('MANYHOST_INVALID_OPTION', text, { cause: error })
  }
}

/** The URL that a client of this machine can use: an address that stands for all of them is none. */
function toLocalUrl(server: Pick<Server, 'address'>, isTls: boolean): string {
  const url = formatServerUrl(server, isTls ? 'https' : 'http')
  return url.replace('//[::]:', '//localhost:').replace('//0.0.0.0:', '//127.0.0.1:')
}

async function closeServer(server: Pick<Server, 'close' | 'closeAllConnections'>): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  server.closeAllConnections()
  await closed
}
