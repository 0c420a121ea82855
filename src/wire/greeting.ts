/**
 * The greeting: the first texts that two manyhost peers exchange. An original peer lands them without any effect. Pure: the
 * texts, the proofs, and how they are checked. A proof is HMAC-SHA256 (RFC 2104) over both texts, each with a fresh nonce,
 * and over the role, so that a recorded proof, or one of the other role, is worthless.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { ManyhostError } from '../core/errors.ts'
import { createAuthError } from './errors.ts'
import { LiteralReader } from './literal.ts'

/** The numbers of the greeting's two conversations, hello and its confirmation. They are below all others. */
export const HELLO_NUMBER = '100'
export const READY_NUMBER = '99'

/** Maximum bytes of a packet from a peer that must prove itself first. */
export const MAX_GREETING_BYTES = 4_096
const GREETING_PREFIX = 'manyhost/1'
const NO_PROOF = '-'

/** What each end declares about itself. */
export interface GreetingHello {
  readonly nonce: string
  readonly beat: number
  readonly packetSize: number
  readonly ident?: string
  /** Set by the dialled end if it requires a proof. */
  readonly isStrict?: boolean
}

export type GreetingKind = 'hello' | 'welcome' | 'ready'
export type WireSecret = string | Uint8Array

export interface Greeting {
  readonly kind: GreetingKind
  readonly proof: string
  /** The text that the proof covers. */
  readonly text: string
  readonly hello: GreetingHello | undefined
}

export function createNonce(): string {
  return randomBytes(32).toString('hex')
}

export function formatGreeting(kind: GreetingKind, text: string, proof = NO_PROOF): string {
  return `${GREETING_PREFIX} ${kind} ${proof} ${text}`
}

/**
 * Parses posted code as a greeting; undefined if it is other code.
 * @throws ManyhostError MANYHOST_WIRE_AUTH
 */
export function parseGreeting(code: string): Greeting | undefined {
  const reader = new LiteralReader(code, () => undefined)
  const value = reader.readValue()
  if (typeof value !== 'string' || !value.startsWith(`${GREETING_PREFIX} `)) return undefined
  const match = /^\S+ (hello|welcome|ready) (\S+) (.*)$/s.exec(value)
  if (!match) throw createAuthError('the greeting has a wrong form')
  const [, kind, proof, text] = match as unknown as [string, GreetingKind, string, string]
  return { kind, proof, text, hello: kind === 'ready' ? undefined : parseHello(text) }
}

function parseHello(text: string): GreetingHello {
  let hello: Partial<Record<keyof GreetingHello, unknown>>
  try {
    hello = JSON.parse(text) as typeof hello
  } catch (cause) {
    throw new ManyhostError('MANYHOST_WIRE_AUTH', 'the greeting contains invalid JSON', { cause })
  }
  const { nonce, beat, packetSize, ident, isStrict } = hello ?? {}
  const fits =
    typeof nonce === 'string' &&
    /^[0-9a-f]{64}$/.test(nonce) &&
    isNonNegativeInteger(beat) &&
    isNonNegativeInteger(packetSize) &&
    packetSize >= 1_024 &&
    (ident === undefined || (typeof ident === 'string' && ident.length > 0 && ident.length <= 128))
  if (!fits) throw createAuthError('the greeting lacks a field, or has one out of range')
  return {
    nonce,
    beat,
    packetSize,
    isStrict: isStrict === true,
    ...(typeof ident === 'string' && { ident }),
  }
}

function isNonNegativeInteger(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

/** The proof that the end with this role knows the secret. */
export function computeProof(
  secret: WireSecret,
  role: 'dial' | 'serve',
  hello: string,
  welcome: string,
): string {
  return createHmac('sha256', secret)
    .update(`${GREETING_PREFIX} ${role}\n${hello}\n${welcome}`)
    .digest('hex')
}

/** Compares in constant time. */
export function isSameProof(actual: string, expected: string): boolean {
  if (!/^[0-9a-f]{64}$/.test(actual)) return false
  return timingSafeEqual(Buffer.from(actual, 'hex'), Buffer.from(expected, 'hex'))
}

/** A secret that nobody has. It stands in for an unknown ident, so that the peer cannot find out which idents exist. */
export function createDecoySecret(): WireSecret {
  return randomBytes(32)
}
