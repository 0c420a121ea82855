/** Who may call: bearer tokens, of the hub or of one service, and no page of a browser that is not ours. */
import type { IncomingMessage } from 'node:http'
import * as caller from '../../src/core/http-caller.ts'
import { createRefusal, type Refusal } from './json.ts'
import type { PullService } from './pull-service.ts'

/** As it is kept with a service. */
export function digestToken(token: string): string {
  return caller.digestSecret(token).toString('hex')
}

function isSameDigest(a: string, b: string): boolean {
  return caller.isEqualDigest(Buffer.from(a, 'hex'), Buffer.from(b, 'hex'))
}

export class PullAccess {
  /** Of the hub's token: it opens everything. */
  readonly #token: string | undefined

  constructor(token: string | undefined) {
    this.#token = token === undefined ? undefined : digestToken(token)
  }

  /** For what belongs to no service: the lists, and new services. @throws Refusal 401 */
  requireFullAccess(request: IncomingMessage, services: Iterable<PullService>): void {
    if (this.#token === undefined) {
      for (const { row } of services) if (row.token !== undefined) throw createUnauthorized(request)
    } else if (!isSameDigest(this.#digestGivenToken(request), this.#token))
      throw createUnauthorized(request)
  }

  /** Whether what is open to whoever may ask anything is open to this one. @throws Refusal 401 */
  requireHubAccess(request: IncomingMessage): void {
    if (this.#token !== undefined && !isSameDigest(this.#digestGivenToken(request), this.#token)) {
      throw createUnauthorized(request)
    }
  }

  /** @throws Refusal 401 */
  requireServiceAccess(request: IncomingMessage, { row }: PullService): void {
    if (this.#token === undefined && row.token === undefined) return
    const given = this.#digestGivenToken(request)
    // Both are compared, so that the time does not tell which one it was.
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
 * Workers are no browsers. A page that a browser shows on this machine must not hand out work, nor one whose name was
 * bound anew to this machine: the first says its origin, the second calls us by a name that is not ours.
 * @param isOpen whether there is no token that would tell friend from foe
 * @throws Refusal 403, 421
 */
export function refuseBrowserPages({ headers, socket }: IncomingMessage, isOpen: boolean): void {
  const { origin, host = '' } = headers
  if (!caller.isSameOrigin(origin, host))
    throw createRefusal(403, 'Forbidden', `pages of ${origin} may not call this`)
  // On a unix socket there are no names.
  if (!isOpen || socket.localAddress === undefined) return
  if (caller.isLocalHostName(host, socket.localAddress)) return
  const detail = `this server is not ${host}: call it by localhost, or give it a token`
  throw createRefusal(421, 'Misdirected Request', detail)
}
