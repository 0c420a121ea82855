/** Calls of an identity source, which a user may have written: each must settle in time. */
import { ManyhostError } from '../core/errors.ts'
import { isPromiseLike } from '../core/promise.ts'
import { resolveWithin } from '../core/time.ts'
import type { Identity, IdentitySource } from './rights.ts'

const START_TIMEOUT_MS = 60_000

/** @throws ManyhostError MANYHOST_FUNCTION_FAILED after a minute; whatever the source throws */
export async function startSource(
  source: IdentitySource,
  onError: (error: Error) => void,
): Promise<void> {
  await settleWithin('start()', START_TIMEOUT_MS, source.start?.(onError))
}

/** @throws ManyhostError MANYHOST_FUNCTION_FAILED after `ms` milliseconds; whatever the source throws */
export async function closeSource(source: IdentitySource, ms: number): Promise<void> {
  await settleWithin('close()', ms, source.close?.())
}

/**
 * Waits for the answer of `find()`.
 * @throws ManyhostError MANYHOST_FUNCTION_FAILED after `ms` milliseconds; whatever the source rejects with
 */
export function waitForIdentity(
  found: PromiseLike<Identity | undefined>,
  ms: number,
): Promise<Identity | undefined> {
  return settleWithin('find()', ms, found)
}

async function settleWithin<T>(method: string, ms: number, result: T | PromiseLike<T>): Promise<T> {
  if (!isPromiseLike(result)) return result
  const settled = await resolveWithin(
    ms,
    Promise.resolve(result).then((value) => ({ value })),
  )
  if (settled) return settled.value
  const text = `identities: ${method} did not answer within ${ms} ms`
  throw new ManyhostError('MANYHOST_FUNCTION_FAILED', text)
}
