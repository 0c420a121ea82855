/**
 * The greeting: what two manyhost peers say to each other first, as text that an original peer lands without any effect.
 * Pure: texts, proofs and how they are checked. The proof is HMAC-SHA256 (RFC 2104) over both texts, each with a fresh
 * nonce, and the role, so that nothing that was heard before, or from the other side, proves anything.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { ManyhostError } from '../core/errors.ts'
import { createAuthError } from './errors.ts'
import { LiteralReader } from './literal.ts'

/** The numbers of the greeting's two conversations, below all others: hello, and what confirms it. */
export const HELLO_NUMBER = '100'
export const READY_NUMBER = '99'

/** Most bytes of a packet before the peer is known. */
export const MAX_GREETING_BYTES = 4_096
const GREETING_PREFIX = 'manyhost/1'
const NO_PROOF = '-'

/** What each end says of itself. */
export interface GreetingHello {
  readonly nonce: string
  readonly beat: number
  readonly packetSize: number
  readonly ident?: string
  /** The dialled end says whether it wants a proof. */
  readonly isStrict?: boolean
}

export type GreetingKind = 'hello' | 'welcome' | 'ready'
export type WireSecret = string | Uint8Array

export interface Greeting {
  readonly kind: GreetingKind
  readonly proof: string
  /** What the proof is over. */
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
 * Reads landed text as a greeting; undefined if it is none.
 * @throws ManyhostError MANYHOST_WIRE_AUTH
 */
export function parseGreeting(code: string): Greeting | undefined {
  const reader = new LiteralReader(code, () => undefined)
  const said = reader.readValue()
  if (typeof said !== 'string' || !said.startsWith(`${GREETING_PREFIX} `)) return undefined
  const match = /^\S+ (hello|welcome|ready) (\S+) (.*)$/s.exec(said)
  if (!match) throw createAuthError('a greeting that is none')
  const [, kind, proof, text] = match as unknown as [string, GreetingKind, string, string]
  return { kind, proof, text, hello: kind === 'ready' ? undefined : parseHello(text) }
}

function parseHello(text: string): GreetingHello {
  let said: Partial<Record<keyof GreetingHello, unknown>>
  try {
    said = JSON.parse(text) as typeof said
  } catch (cause) {
    throw new ManyhostError('MANYHOST_WIRE_AUTH', 'a greeting that is no JSON', { cause })
  }
  const { nonce, beat, packetSize, ident, isStrict } = said ?? {}
  const fits =
    typeof nonce === 'string' &&
    /^[0-9a-f]{64}$/.test(nonce) &&
    isNonNegativeInteger(beat) &&
    isNonNegativeInteger(packetSize) &&
    packetSize >= 1_024 &&
    (ident === undefined || (typeof ident === 'string' && ident.length > 0 && ident.length <= 128))
  if (!fits) throw createAuthError('a greeting without what belongs to it')
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

/** What `role` proves its knowledge of the secret with. */
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

/** A secret that nobody has: for those who are not known, so that they learn no more than others. */
export function createDecoySecret(): WireSecret {
  return randomBytes(32)
}
