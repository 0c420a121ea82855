/** Names for tracing on `node:diagnostics_channel`: free as long as nobody subscribes. */
import { channel } from 'node:diagnostics_channel'

export const trace = {
  /** `{ service, exchange }`: a request came. */
  start: channel('manyhost:request:start'),
  /** `{ service, exchange, attempt }`: it was given to an instance, `attempt.target`, for the `attempt.number`th time. */
  attempt: channel('manyhost:attempt:start'),
  /** `{ service, exchange, outcome, status }`: it has ended. */
  end: channel('manyhost:request:end'),
}
