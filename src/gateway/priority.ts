/**
 * A request's own word on its priority: the header `Priority` (RFC 9218), a dictionary of structured fields (RFC 9651
 * section 3.2) of which `u` counts, from 0, the most urgent, to 7; 3 if it says nothing. Pure.
 */

const QUOTED = /"(?:[^"\\]|\\.)*"/g
const URGENCY = /(?:^|,)[ \t]*u=([0-7])[ \t]*(?=[;,]|$)/g
const DEFAULT_URGENCY = 3

/** Higher is served first, 0 is as good as nothing said: 3 for `u=0`, -4 for `u=7`. */
export function parsePriority(header: string | readonly string[] | undefined): number | undefined {
  if (header === undefined) return undefined
  const text = (typeof header === 'string' ? header : header.join(',')).replace(QUOTED, '""')
  // What comes last counts.
  const last = [...text.matchAll(URGENCY)].at(-1)
  return last && DEFAULT_URGENCY - Number(last[1])
}
