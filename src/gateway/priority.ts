/**
 * The header `Priority` of a request (RFC 9218): a dictionary of structured fields (RFC 9651 section 3.2). Its member `u` is
 * the urgency, from 0, the most urgent, to 7. The default is 3. Pure.
 */

const QUOTED = /"(?:[^"\\]|\\.)*"/g
const URGENCY = /(?:^|,)[ \t]*u=([0-7])[ \t]*(?=[;,]|$)/g
const DEFAULT_URGENCY = 3

/** The priority in the queue, higher is served first: 3 for `u=0`, -4 for `u=7`, 0 for the default. Undefined without `u`. */
export function parsePriority(header: string | readonly string[] | undefined): number | undefined {
  if (header === undefined) return undefined
  const text = (typeof header === 'string' ? header : header.join(',')).replace(QUOTED, '""')
  // The last member of a name counts (RFC 9651 section 3.2).
  const last = [...text.matchAll(URGENCY)].at(-1)
  return last && DEFAULT_URGENCY - Number(last[1])
}
