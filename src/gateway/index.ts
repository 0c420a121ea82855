/** `manyhost/gateway`: an HTTP server in front of a session. */
import type { Session } from '../session.ts'
import { mustBeAddress } from './address.ts'
import { Front } from './gateway.ts'
import { listenOn, urlOf } from './listening.ts'
import { type GatewayOptions, parseGateway } from './options.ts'
import { openDoor } from './servers.ts'

export type { Listen } from './address.ts'
export type { Auth, Cors, ServiceDoor } from './doors.ts'
export type { GatewayOptions } from './options.ts'

export interface Gateway extends AsyncDisposable {
  /** Where it listens: `http://127.0.0.1:8080`, or `unix:/path`. */
  readonly url: string
  /**
   * Takes other options from now on, without losing a request: `services`, `trustedProxies`, `via`, `bodySize` and
   * `bodyRate`. The others stay as they were opened with.
   * @throws ManyhostError MANYHOST_INVALID_OPTION; then nothing is changed
   */
  update(options: GatewayOptions): void
  /**
   * Ends each connection with its next answer, and still takes new ones: some time before `close()`, so that no client
   * is cut off between two requests.
   */
  drain(): void
  /** Takes no new request, lets those under way end for `drainTimeout` ms, and closes. The session stays. Idempotent. */
  close(): Promise<void>
}

/**
 * Opens an HTTP server whose requests go to the session's services.
 * @throws ManyhostError MANYHOST_INVALID_OPTION, also when the address cannot be listened on
 */
export async function createGateway(
  session: Session,
  options: GatewayOptions = {},
): Promise<Gateway> {
  const settings = parseGateway(options)
  const where = mustBeAddress(settings.listen)
  let front = new Front(session, settings)
  // Servers ask for it at each request: it may have been replaced since.
  const current: Pick<Front, 'onRequest' | 'onContinue' | 'onUpgrade'> = {
    onRequest: (request, response) => front.onRequest(request, response),
    onContinue: (request, response) => front.onContinue(request, response),
    onUpgrade: (request, socket, head) => front.onUpgrade(request, socket, head),
  }
  const door = openDoor(current, settings)
  try {
    await listenOn(door.server, where, 'gateway')
  } catch (error) {
    await door.close(0)
    front.close()
    throw error
  }
  const url = urlOf(door.server, settings.tls !== undefined)
  let closing: Promise<void> | undefined
  const close = (): Promise<void> => {
    front.drain()
    closing ??= door.close(settings.drainTimeout).then(() => front.close())
    return closing
  }
  return {
    url,
    update(next) {
      const old = front
      front = new Front(session, parseGateway(next))
      old.close()
    },
    drain: () => front.drain(),
    close,
    [Symbol.asyncDispose]: close,
  }
}
