/**
 * What those in front of a session (its gateway, its metrics) see of the rooms behind it: the same types, functions and
 * objects, so that a request costs no more this way. Whatever is not here is none of theirs.
 */
import type { Cluster } from './cluster/cluster.ts'
import { type PreparedBody, prepareBody } from './dispatch/body.ts'
import { mayRepeat } from './dispatch/verdict.ts'

export type { Cluster } from './cluster/cluster.ts'
export type { Instance } from './cluster/instance.ts'
export type { Candidate, Pick } from './dispatch/balance.ts'
export type { Exchange, RawHeaders, RequestFacts, Sink } from './dispatch/exchange.ts'
export type { Exemplar, Exemplars } from './dispatch/exemplars.ts'
export { requestFacts } from './dispatch/facts.ts'
export { BUCKETS, type Histogram } from './dispatch/histogram.ts'
export { rawPairs } from './dispatch/raw.ts'

/**
 * A body for `requestFacts`, kept for another attempt as the service says.
 * @throws ManyhostError MANYHOST_INVALID_OPTION for what is no body
 */
export function bodyFor(
  { settings: { dispatch } }: Cluster,
  body: unknown,
  method: string,
  keyed: boolean,
): PreparedBody {
  const { resend, replayLimit } = dispatch
  return prepareBody(body, { replayLimit, keep: mayRepeat(resend, method, keyed) })
}
