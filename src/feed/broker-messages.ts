/** A broker's last words, and what a client makes of them: the protocol has nothing but text. Pure. */

/** Of a broker whose identities cannot be asked now: neither a yes nor a no. */
export function formatLookupFailed(ident: string): string {
  return `Authentication is not possible now for ${ident}`
}

/** Of a broker that did not come to know in time who the peer is. */
export const AUTH_TIMED_OUT = 'Authentication timed out'

/** It closes before it has looked at anything that came behind AUTH. */
const UNPROCESSED_PATTERN = /^Authentication (is not possible now|timed out)/i
/** It closes, but would have us again: a slow reader, one that ends, one that is full. */
const TEMPORARY_PATTERN = /^(Backpressure|Server is shutting down|Too many connections)/i

/**
 * `refused`: it would be the same again. `passing`: it may be otherwise next time. `unheard`: passing, and nothing of
 * what was sent has gone anywhere.
 */
export type BrokerErrorKind = 'refused' | 'passing' | 'unheard'

export function classifyBrokerError(words: string): BrokerErrorKind {
  if (UNPROCESSED_PATTERN.test(words)) return 'unheard'
  return TEMPORARY_PATTERN.test(words) ? 'passing' : 'refused'
}
