/** The texts with which a broker ends a connection, and what a client makes of them: the protocol has nothing else. Pure. */

/** The broker's identities cannot be looked up now. This says neither yes nor no to the peer. */
export function formatLookupFailed(ident: string): string {
  return `Authentication is not possible now for ${ident}`
}

/** The peer did not prove its identity in time. */
export const AUTH_TIMED_OUT = 'Authentication timed out'

/** The same for an unknown ident and for a wrong secret, so that a peer cannot find out which idents exist. */
export function formatAuthFailed(ident: string): string {
  return `Authentication failed for ${ident}`
}

export function formatPublishRefused(ident: string, channel: string): string {
  return `Authkey not allowed to pub here. ident=${ident}, chan=${channel}`
}

export function formatSubscribeRefused(ident: string, channel: string): string {
  return `Authkey not allowed to sub here. ident=${ident}, chan=${channel}`
}

/** The broker closes before it has looked at anything that came behind AUTH. */
const UNPROCESSED_PATTERN = /^Authentication (is not possible now|timed out)/i
/** The broker closes, but a new connection may be accepted: we read too slowly, it shuts down, or it is full. */
const TEMPORARY_PATTERN = /^(Backpressure|Server is shutting down|Too many connections)/i

/**
 * - `refused`: a new attempt would fail in the same way.
 * - `temporary`: a new attempt may succeed.
 * - `unprocessed`: a new attempt may succeed, and nothing of what was sent has reached a subscriber.
 */
export type BrokerErrorKind = 'refused' | 'temporary' | 'unprocessed'

export function classifyBrokerError(message: string): BrokerErrorKind {
  if (UNPROCESSED_PATTERN.test(message)) return 'unprocessed'
  return TEMPORARY_PATTERN.test(message) ? 'temporary' : 'refused'
}
