/** Opens the gateway: its servers, its request handler and its admin address. */
import { isDeepStrictEqual } from 'node:util'
import { requireListenAddress } from '../core/listen-address.ts'
import { sleep, yieldTurn } from '../core/time.ts'
import { type AdminServer, openAdminServer, type SessionWithMetrics } from './admin/server.ts'
import { listenOn, serverUrl } from './listening.ts'
import { type GatewayOptions, parseGateway } from './options.ts'
import { RequestHandler } from './request-handler.ts'
import { openGatewayServer } from './server.ts'

/** What belongs to its sockets. */
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
  /** Where it listens: `http://127.0.0.1:8080`, or `unix:/path`. */
  readonly url: string
  /** Where its admin address is, the first one if there are several; undefined without `admin`. */
  readonly adminUrl: string | undefined
  /**
   * Takes other options from now on, without losing a request. Those that belong to its sockets stay as it was opened
   * with; their names are the answer, where they differ.
   * @throws ManyhostError MANYHOST_INVALID_OPTION; then nothing is changed
   */
  update(options: GatewayOptions): readonly string[]
  /** Ends each connection with its next answer, still takes new ones, and says at `/readyz` that it is not ready. */
  drain(): void
  /**
   * Drains; `shutdownDelay` ms after that began takes no new request, lets those under way end for `drainTimeout` ms, and
   * closes; the admin address last. The session stays. Idempotent.
   */
  close(): Promise<void>
}

/**
 * Opens an HTTP server whose requests go to the session's services, and the admin address with `admin`.
 * @throws ManyhostError MANYHOST_INVALID_OPTION, also when the address cannot be listened on
 */
export async function createGateway(
  session: SessionWithMetrics,
  options: GatewayOptions = {},
): Promise<Gateway> {
  const settings = parseGateway(options)
  const where = requireListenAddress('gateway: listen', settings.listen)
  let delay: Promise<void> | undefined
  const isClosing = (): boolean => delay !== undefined
  let front = new RequestHandler(session, settings, isClosing)
  // Servers ask for it at each request: it may have been replaced since.
  const current: Pick<RequestHandler, 'onRequest' | 'onContinue' | 'onUpgrade' | 'onConnect'> = {
    onRequest: (request, response) => front.onRequest(request, response),
    onContinue: (request, response) => front.onContinue(request, response),
    onUpgrade: (request, socket, head) => front.onUpgrade(request, socket, head),
    onConnect: (request, response) => front.onConnect(request, response),
  }
  const door = openGatewayServer(current, settings)
  let admin: AdminServer | undefined
  try {
    await listenOn(door.server, where, 'gateway')
    if (settings.admin) {
      admin = await openAdminServer(session, { ...settings.admin, isReady: () => !isClosing() })
    }
  } catch (error) {
    await door.close(0)
    front.close()
    throw error
  }
  const url = serverUrl(door.server, settings.tls !== undefined)
  let closing: Promise<void> | undefined
  const drain = (): Promise<void> => {
    delay ??= sleep(settings.shutdownDelay)
    return delay
  }
  const end = async (): Promise<void> => {
    await drain()
    // Connections that wait to be accepted would be reset.
    await yieldTurn()
    await door.close(settings.drainTimeout)
    front.close()
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
      const old = front
      front = new RequestHandler(session, next, isClosing)
      old.close()
      door.update(next)
      return SOCKET_OPTIONS.filter((name) => !isDeepStrictEqual(settings[name], next[name]))
    },
    drain: () => void drain(),
    close,
    [Symbol.asyncDispose]: close,
  }
}
