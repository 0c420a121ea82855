/**
 * A pool of undici that does not lose connections. undici's own pool loses a connection for ever when a client refuses a
 * request: `Client.dispatch()` then returns false, as it does when the request makes the client busy, and the pool waits for
 * the event `drain`, which never comes, because nothing was queued. Two refused requests block an instance of two connections.
 * Requests are checked before they come here (`dispatch/validate-request.ts`); this file makes a missing check harmless.
 */
import { Client, Pool } from 'undici'

type Dispatch = Parameters<Client['dispatch']>

class PatchedClient extends Client {
  override dispatch(options: Dispatch[0], handler: Dispatch[1]): boolean {
    if (super.dispatch(options, handler)) return true
    // A client without requests is not busy: it has refused this request, or ended it at once. A client that was closed or
    // destroyed must not be asked again.
    return this.stats.size === 0 && !this.closed && !this.destroyed
  }
}

/** `pipelining` is 1: a client has one request at a time. */
export function createPatchedPool(origin: string | URL, options: Pool.Options): Pool {
  return new Pool(origin, {
    ...options,
    pipelining: 1,
    factory: (at, clientOptions) => new PatchedClient(at, clientOptions as Client.Options),
  })
}
