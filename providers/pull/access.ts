/** Who may call: bearer tokens, of the hub or of one service, and no page of a browser that is not ours. */
import type { IncomingMessage } from 'node:http'
import * as caller from '../../src/core/http-caller.ts'
import { type Refusal, refuse } from './json.ts'
import type { Service } from './service.ts'

/** As it is kept with a service. */
export function digest(token: string): string {
  return caller.digest(token).toString('hex')
}

function same(a: string, b: string): boolean {
  return caller.isSame(Buffer.from(a, 'hex'), Buffer.from(b, 'hex'))
}

export class Access {
  /** Of the hub's token: it opens everything. */
  readonly #token: string | undefined

  constructor(token: string | undefined) {
    this.#token = token === undefined ? undefined : digest(token)
  }

  /** For what belongs to no service: the lists, and new services. @throws Refusal 401 */
  hub(request: IncomingMessage, services: Iterable<Service>): void {
    if (this.#token === undefined) {
      for (const { row } of services) if (row.token !== undefined) throw unauthorized(request)
    } else if (!same(this.#given(request), this.#token)) throw unauthorized(request)
  }

  /** Whether what is open to whoever may ask anything is open to this one. @throws Refusal 401 */
  any(request: IncomingMessage): void {
    if (this.#token !== undefined && !same(this.#given(request), this.#token)) {
      throw unauthorized(request)
    }
  }

  /** @throws Refusal 401 */
  service(request: IncomingMessage, { row }: Service): void {
    if (this.#token === undefined && row.token === undefined) return
    const given = this.#given(request)
    // Both are compared, so that the time does not tell which one it was.
    const isHub = this.#token !== undefined && same(given, this.#token)
    const isOwn = row.token !== undefined && same(given, row.token)
    if (!isHub && !isOwn) throw unauthorized(request)
  }

  #given({ headers }: IncomingMessage): string {
    return digest(caller.bearerOf(headers.authorization))
  }
}

function unauthorized({ headers }: IncomingMessage): Refusal {
  const detail = `the request has ${headers.authorization === undefined ? 'no' : 'a wrong'} token`
  return refuse(401, 'Unauthorized', detail, { 'www-authenticate': 'Bearer realm="manyhost"' })
}

/**
 * Workers are no browsers. A page that a browser shows on this machine must not hand out work, nor one whose name was
 * bound anew to this machine: the first says its origin, the second calls us by a name that is not ours.
 * @param isOpen whether there is no token that would tell friend from foe
 * @throws Refusal 403, 421
 */
export function refusePages({ headers, socket }: IncomingMessage, isOpen: boolean): void {
  const { origin, host = '' } = headers
  if (!caller.isSameOrigin(origin, host))
    throw refuse(403, 'Forbidden', `pages of ${origin} may not call this`)
  // On a unix socket there are no names.
  if (!isOpen || socket.localAddress === undefined) return
  if (caller.isOwnName(host, socket.localAddress)) return
  const detail = `this server is not ${host}: call it by localhost, or give it a token`
  throw refuse(421, 'Misdirected Request', detail)
}
