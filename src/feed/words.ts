/** A broker's last words, and what a client makes of them: the protocol has nothing but text. Pure. */

/** Of a broker whose identities cannot be asked now: neither a yes nor a no. */
export function uncheckedWords(ident: string): string {
  return `Authentication is not possible now for ${ident}`
}

/** Of a broker that did not come to know in time who the peer is. */
export const TIMED_OUT = 'Authentication timed out'

/** It closes before it has looked at anything that came behind AUTH. */
const UNHEARD = /^Authentication (is not possible now|timed out)/i
/** It closes, but would have us again: a slow reader, one that ends, one that is full. */
const PASSING = /^(Backpressure|Server is shutting down|Too many connections)/i

/**
 * `refused`: it would be the same again. `passing`: it may be otherwise next time. `unheard`: passing, and nothing of
 * what was sent has gone anywhere.
 */
export type Meaning = 'refused' | 'passing' | 'unheard'

export function meaningOf(words: string): Meaning {
  if (UNHEARD.test(words)) return 'unheard'
  return PASSING.test(words) ? 'passing' : 'refused'
}
