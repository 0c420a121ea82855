/** Channels of `node:diagnostics_channel` for tracing. Without a subscriber they cost nothing. */
import { channel } from 'node:diagnostics_channel'

export const trace = {
  /** `{ service, exchange }`: a request has arrived. */
  start: channel('manyhost:request:start'),
  /** `{ service, exchange, attempt }`: attempt `attempt.number` was given to the instance `attempt.target`. */
  attempt: channel('manyhost:attempt:start'),
  /** `{ service, exchange, outcome, status }`: the request has ended. */
  end: channel('manyhost:request:end'),
}
