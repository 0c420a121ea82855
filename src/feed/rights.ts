/** Who may publish and subscribe where. Pure. */
import { timingSafeEqual } from 'node:crypto'
import { ManyhostError } from '../core/errors.ts'
import { hashSecret } from './frame.ts'

export interface Identity {
  readonly ident: string
  readonly secret: string
  /** Channels that it may publish to: exact names, or patterns where the feed was asked for them. */
  readonly publish: readonly string[]
  readonly subscribe: readonly string[]
  /** For people. */
  readonly owner?: string
}

/** Tells of one ident what there is, or nothing. May be asked for anything that a stranger sends. */
export interface IdentitySource {
  find(ident: string): Identity | undefined | Promise<Identity | undefined>
  /** Loads what must be there at the start. @throws ManyhostError */
  start?(onError: (error: Error) => void): Promise<void> | void
  close?(): Promise<void> | void
}

/** Whether a source answers later. It may have a promise of its own, as libraries do. */
export function isThenable<T>(found: T | PromiseLike<T>): found is PromiseLike<T> {
  return typeof (found as PromiseLike<T> | undefined)?.then === 'function'
}

/**
 * What a source answered: a user may have written it.
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
 * Whether the secret is known. Takes the same time for an ident that nobody has: it is compared with a secret that
 * nobody has.
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

/** Compares whole secrets, as HTTP sends them, in a time that tells nothing. */
export function verifySecret(
  given: string,
  identity: Identity | undefined,
  decoy: string,
): boolean {
  const salt = Buffer.from('http')
  return verifyProof(hashSecret(salt, given), salt, identity, decoy)
}

/** Whether a list of rights has the channel; with `patterns`, `*` in it stands for any characters, none too. */
export function isChannelAllowed(
  rights: readonly string[],
  channel: string,
  patterns: boolean,
): boolean {
  return (
    rights.includes(channel) || (patterns && rights.some((right) => matchesPattern(right, channel)))
  )
}

/** Greedy with one way back, to the last star: linear in practice, and never exponential. */
function matchesPattern(pattern: string, text: string): boolean {
  if (!pattern.includes('*')) return pattern === text
  let at = 0
  let star = -1
  let mark = 0
  let next = 0
  while (at < text.length) {
    if (pattern[next] === '*') {
      star = next++
      mark = at
    } else if (pattern[next] === text[at]) {
      next++
      at++
    } else if (star >= 0) {
      next = star + 1
      at = ++mark
    } else return false
  }
  while (pattern[next] === '*') next++
  return next === pattern.length
}
