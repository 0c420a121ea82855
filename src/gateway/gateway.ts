/** Opens the gateway: its servers, its request handler and its admin address. */

import { isDeepStrictEqual } from 'node:util'
import { formatServerUrl } from '../core/http/server-url.ts'
import { listenOn } from '../core/listen.ts'
import { requireListenAddress } from '../core/listen-address.ts'
import { sleep, yieldTurn } from '../core/time.ts'
import { type AdminServer, openAdminServer, type SessionWithMetrics } from './admin/server.ts'
import { type GatewayOptions, parseGateway } from './options.ts'
import { RequestHandler } from './request-handler.ts'
import { openGatewayServer } from './server.ts'

/** Options that stay as they were when the sockets were opened. */
const SOCKET_OPTIONS = [
  'listen',
  'admin',
  'tls',
  'http2',
  'headerSize',
  'headerTime',
  'keepAlive',
  'shutdownDelay',
  'drainTimeout',
] as const

export interface Gateway extends AsyncDisposable {
  /** URL of the gateway: `http://127.0.0.1:8080`, or `unix:/path`. */
  readonly url: string
  /** URL of its first admin address; undefined without `admin`. */
  readonly adminUrl: string | undefined
  /**
   * Uses other options from now on, without losing a request.
   * @returns the names of changed options that only a new gateway would use, because they belong to its sockets
   * @throws ManyhostError MANYHOST_INVALID_OPTION; nothing is changed in that case
   */
  update(options: GatewayOptions): readonly string[]
  /** Ends each connection with its next response, still accepts new connections, and is not ready at `/readyz`. */
  drain(): void
  /**
   * 1. Drains, unless `drain()` was called already.
   * 2. Accepts no connection any more, once `shutdownDelay` ms have passed since 1.
   * 3. Lets running requests end, for at most `drainTimeout` ms.
   * 4. Closes the admin address. The session stays open.
   *
   * Idempotent.
   */
  close(): Promise<void>
}

/**
 * Opens an HTTP server whose requests go to the services of the session; with `admin`, the admin address as well.
 * @throws ManyhostError MANYHOST_INVALID_OPTION for a wrong option, and for an address that cannot be listened on
 */
export async function createGateway(
  session: SessionWithMetrics,
  options: GatewayOptions = {},
): Promise<Gateway> {
  const settings = parseGateway(options)
  const address = requireListenAddress('gateway: listen', settings.listen)
  let delay: Promise<void> | undefined
  const isClosing = (): boolean => delay !== undefined
  let handler = new RequestHandler(session, settings, isClosing)
  // The server must not keep the handler: `update` replaces it.
  const current: Pick<RequestHandler, 'onRequest' | 'onContinue' | 'onUpgrade' | 'onConnect'> = {
    onRequest: (request, response) => handler.onRequest(request, response),
    onContinue: (request, response) => handler.onContinue(request, response),
    onUpgrade: (request, socket, head) => handler.onUpgrade(request, socket, head),
    onConnect: (request, response) => handler.onConnect(request, response),
  }
  const server = openGatewayServer(current, settings)
  let admin: AdminServer | undefined
  try {
    await listenOn(server.server, address, 'gateway')
    if (settings.admin) {
      admin = await openAdminServer(session, { ...settings.admin, isReady: () => !isClosing() })
    }
  } catch (error) {
    await server.close(0)
    handler.close()
    throw error
  }
  const url = formatServerUrl(server.server, settings.tls ? 'https' : 'http')
  let closing: Promise<void> | undefined
  const drain = (): Promise<void> => {
    delay ??= sleep(settings.shutdownDelay)
    return delay
  }
  const end = async (): Promise<void> => {
    await drain()
    // One turn for connections that wait to be accepted: they would be reset.
    await yieldTurn()
    await server.close(settings.drainTimeout)
    handler.close()
    await admin?.close()
  }
  const close = (): Promise<void> => {
    closing ??= end()
    return closing
  }
  return {
    url,
    adminUrl: admin?.urls[0],
    update(options) {
      const next = parseGateway(options)
      const old = handler
      handler = new RequestHandler(session, next, isClosing)
      old.close()
      server.update(next)
      return SOCKET_OPTIONS.filter((name) => !isDeepStrictEqual(settings[name], next[name]))
    },
    drain: () => void drain(),
    close,
    [Symbol.asyncDispose]: close,
  }
}
