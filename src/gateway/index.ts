/** `manyhost/gateway`: an HTTP server in front of a session. */
import type { AddressInfo, Server } from 'node:net'
import { describe, ManyhostError } from '../errors.ts'
import type { Session } from '../session.ts'
import { mustBeAddress } from './address.ts'
import { Front } from './gateway.ts'
import { type GatewayOptions, parseGateway } from './options.ts'
import { openDoor } from './servers.ts'

export type { Listen } from './address.ts'
export type { Auth, Cors, ServiceDoor } from './doors.ts'
export type { GatewayOptions } from './options.ts'

export interface Gateway extends AsyncDisposable {
  /** Where it listens: `http://127.0.0.1:8080`, or `unix:/path`. */
  readonly url: string
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
  const front = new Front(session, settings)
  const door = openDoor(front, settings)
  try {
    await listen(door.server, where)
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
    close,
    [Symbol.asyncDispose]: close,
  }
}

function listen(server: Server, where: ReturnType<typeof mustBeAddress>): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const address = 'path' in where ? `unix:${where.path}` : `${where.host}:${where.port}`
      const text = `gateway: cannot listen on ${address}: ${WHY[cause.code ?? ''] ?? describe(cause)}`
      reject(new ManyhostError('MANYHOST_INVALID_OPTION', text, { cause }))
    })
    server.listen(where, resolve)
  })
}

const WHY: Readonly<Record<string, string>> = {
  EADDRINUSE: 'it is taken by another program',
  EACCES: 'no right to do so',
  EADDRNOTAVAIL: 'no such address on this machine',
  ENOENT: 'its folder is not there',
  ENOTFOUND: 'no such host',
}

function urlOf(server: Server, isTls: boolean): string {
  const address = server.address() as AddressInfo | string
  if (typeof address === 'string') return `unix:${address}`
  const host = address.family === 'IPv6' ? `[${address.address}]` : address.address
  return `${isTls ? 'https' : 'http'}://${host}:${address.port}`
}
