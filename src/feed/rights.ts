/** Identities and their rights: who may publish and subscribe to which channel. Pure. */
import { timingSafeEqual } from 'node:crypto'
import { ManyhostError } from '../core/errors.ts'
import { hashSecret } from './frame.ts'

export interface Identity {
  readonly ident: string
  readonly secret: string
  /** Channels that it may publish to: exact names, or patterns if the feed's option `patterns` is set. */
  readonly publish: readonly string[]
  readonly subscribe: readonly string[]
  /** A note for people: whose identity it is. */
  readonly owner?: string
}

/** Looks up identities. A stranger's ident is looked up too, so that `find` may get any text. */
export interface IdentitySource {
  /** The identity, or undefined if there is none with this ident. */
  find(ident: string): Identity | undefined | Promise<Identity | undefined>
  /** Loads the identities, or opens their database. `onError` reports later failures. @throws ManyhostError */
  start?(onError: (error: Error) => void): Promise<void> | void
  close?(): Promise<void> | void
}

/**
 * Checks the answer of a source, which a user may have written.
 * @throws ManyhostError MANYHOST_FUNCTION_FAILED, which never shows a secret
 */
export function checkIdentity(found: Identity | undefined | null): Identity | undefined {
  if (found === undefined || found === null) return undefined
  const areTexts = (list: unknown): boolean =>
    Array.isArray(list) && list.every((one) => typeof one === 'string')
  const isRight =
    typeof found === 'object' &&
    typeof found.ident === 'string' &&
    typeof found.secret === 'string' &&
    found.secret !== '' &&
    areTexts(found.publish) &&
    areTexts(found.subscribe)
  if (isRight) return found
  const text = 'identities: find() must answer { ident, secret, publish, subscribe } or undefined'
  throw new ManyhostError('MANYHOST_FUNCTION_FAILED', text)
}

/**
 * Whether the proof shows that the peer knows the identity's secret. Without an identity it takes the same time, so that a
 * peer cannot find out which idents exist: the proof is compared with one of the decoy, a secret that nobody has.
 */
export function verifyProof(
  hash: Uint8Array,
  nonce: Uint8Array,
  identity: Identity | undefined,
  decoy: string,
): boolean {
  const expected = hashSecret(nonce, identity?.secret ?? decoy)
  return (
    hash.length === expected.length && timingSafeEqual(hash, expected) && identity !== undefined
  )
}

/** Compares whole secrets, as HTTP sends them, in constant time. */
export function verifySecret(
  given: string,
  identity: Identity | undefined,
  decoy: string,
): boolean {
  const salt = Buffer.from('http')
  return verifyProof(hashSecret(salt, given), salt, identity, decoy)
}

/** Whether a list of rights contains the channel. With `patterns`, `*` in a right matches any characters, or none. */
export function isChannelAllowed(
  rights: readonly string[],
  channel: string,
  patterns: boolean,
): boolean {
  return (
    rights.includes(channel) || (patterns && rights.some((right) => matchesPattern(right, channel)))
  )
}

/** Backtracks to the last star only, so that the time is never exponential. */
function matchesPattern(pattern: string, text: string): boolean {
  if (!pattern.includes('*')) return pattern === text
  let at = 0
  let next = 0
  /** Where the last star is in the pattern, and where the text begins that follows what it matches. */
  let star = -1
  let resumeAt = 0
  while (at < text.length) {
    if (pattern[next] === '*') {
      star = next++
      resumeAt = at
    } else if (pattern[next] === text[at]) {
      next++
      at++
    } else if (star >= 0) {
      next = star + 1
      at = ++resumeAt
    } else return false
  }
  while (pattern[next] === '*') next++
  return next === pattern.length
}
