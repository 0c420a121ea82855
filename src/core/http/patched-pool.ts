/**
 * undici's pool, mended: a plain one loses a connection for ever when it refuses a request. `Client.dispatch()` answers
 * false for a refused request as it does for one that makes it busy; the pool then waits for the client's `drain`, which
 * never comes, because nothing was queued. Two refused requests jam an instance of two connections. Requests are checked
 * before they come here (`dispatch/valid.ts`); this is what makes a check that is missing harmless.
 */
import { Client, Pool } from 'undici'

type Dispatch = Parameters<Client['dispatch']>

class PatchedClient extends Client {
  override dispatch(options: Dispatch[0], handler: Dispatch[1]): boolean {
    if (super.dispatch(options, handler)) return true
    // With nothing to do it is not busy: it has refused the request, or ended it at once. A client that was closed or
    // destroyed takes no more, and is not to be asked again.
    return this.stats.size === 0 && !this.closed && !this.destroyed
  }
}

/** A pool that keeps its connections whatever it is asked. `pipelining` is 1: a client has one request at a time. */
export function createPatchedPool(origin: string | URL, options: Pool.Options): Pool {
  return new Pool(origin, {
    ...options,
    pipelining: 1,
    factory: (at, clientOptions) => new PatchedClient(at, clientOptions as Client.Options),
  })
}
