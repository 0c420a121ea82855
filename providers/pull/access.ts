/** Who may call the API: bearers of the hub's token or of a service's own, and no page in a browser of another origin. */
import type { IncomingMessage } from 'node:http'
import * as caller from '../../src/core/http-caller.ts'
import type { ServiceRow } from './job-store.ts'
import { createRefusal, type Refusal } from './json.ts'

interface ProtectedService {
  readonly row: Pick<ServiceRow, 'token'>
}

/** The digest of a token, in hex, as it is stored with a service. */
export function digestToken(token: string): string {
  return caller.digestSecret(token).toString('hex')
}

function isSameDigest(a: string, b: string): boolean {
  return caller.isEqualDigest(Buffer.from(a, 'hex'), Buffer.from(b, 'hex'))
}

export class PullAccess {
  /** Digest of the hub's token, which opens everything. */
  readonly #token: string | undefined

  constructor(token: string | undefined) {
    this.#token = token === undefined ? undefined : digestToken(token)
  }

  /**
   * For what shows all services. Without a token of the hub it is open as long as no service has a token of its own.
   * @throws Refusal 401
   */
  requireFullAccess(request: IncomingMessage, services: Iterable<ProtectedService>): void {
    if (this.#token === undefined) {
      for (const { row } of services) if (row.token !== undefined) throw createUnauthorized(request)
    } else this.requireHubAccess(request)
  }

  /** For what belongs to no service. Without a token of the hub it is open. @throws Refusal 401 */
  requireHubAccess(request: IncomingMessage): void {
    if (this.#token !== undefined && !isSameDigest(this.#digestGivenToken(request), this.#token)) {
      throw createUnauthorized(request)
    }
  }

  /** The hub's token and the service's own one open a service. @throws Refusal 401 */
  requireServiceAccess(request: IncomingMessage, { row }: ProtectedService): void {
    if (this.#token === undefined && row.token === undefined) return
    const given = this.#digestGivenToken(request)
    // Both are always compared, so that the time does not show which one it was.
    const isHub = this.#token !== undefined && isSameDigest(given, this.#token)
    const isOwn = row.token !== undefined && isSameDigest(given, row.token)
    if (!isHub && !isOwn) throw createUnauthorized(request)
  }

  #digestGivenToken({ headers }: IncomingMessage): string {
    return digestToken(caller.parseBearerToken(headers.authorization))
  }
}

function createUnauthorized({ headers }: IncomingMessage): Refusal {
  const detail = `the request has ${headers.authorization === undefined ? 'no' : 'a wrong'} token`
  return createRefusal(401, 'Unauthorized', detail, {
    'www-authenticate': 'Bearer realm="manyhost"',
  })
}

/**
 * Refuses pages in a browser, because workers are no browsers. Two kinds of pages could reach a server of this machine:
 * 1. A page of another origin. The browser sends its origin.
 * 2. A page whose host name was bound to this machine (DNS rebinding). It calls the server by a name that is not local.
 *    This is checked only where there is no token, which such a page cannot know.
 * @param isOpen whether the hub has no token
 * @throws Refusal 403, 421
 */
export function refuseBrowserPages({ headers, socket }: IncomingMessage, isOpen: boolean): void {
  const { origin, host = '' } = headers
  // 1.
  if (!caller.isSameOrigin(origin, host)) {
    throw createRefusal(403, 'Forbidden', `pages of ${origin} may not call this server`)
  }
  // 2. A unix socket has no address, and no page can reach it.
  if (!isOpen || socket.localAddress === undefined) return
  if (caller.isLocalHostName(host, socket.localAddress)) return
  const detail = `this server is not ${host}: call it as localhost, or give it a token`
  throw createRefusal(421, 'Misdirected Request', detail)
}
