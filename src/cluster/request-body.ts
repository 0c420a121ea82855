/** The body of a request to a cluster. */
import { type PreparedBody, prepareBody } from '../dispatch/body.ts'
import { mayRepeat } from '../dispatch/verdict.ts'
import type { Cluster } from './cluster.ts'

/**
 * Prepares a body for `buildRequestInput`. It is kept for another attempt if the resend policy of the service allows one.
 * @param keyed whether the request has an idempotency key
 * @throws ManyhostError MANYHOST_INVALID_OPTION if `body` is not a body
 */
export function prepareServiceBody(
  { settings: { dispatch } }: Cluster,
  body: unknown,
  method: string,
  keyed: boolean,
): PreparedBody {
  const { resend, replayLimit } = dispatch
  return prepareBody(body, { replayLimit, keep: mayRepeat(resend, method, keyed) })
}
