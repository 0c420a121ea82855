/** When a store that is busy, or a disk that is full, is tried again. Pure. */
import { exponentialDelay } from '../../core/backoff.ts'
import { ManyhostError } from '../../core/errors.ts'

const RETRY_RANGE_MS = { min: 50, max: 5_000 }

/**
 * Milliseconds before the next try. Without jitter: the writers of one server wait for one lock or one disk anyway.
 * @param failures failures in a row before the one that is waited for now
 */
export function storeRetryDelay(failures: number): number {
  return exponentialDelay(failures, RETRY_RANGE_MS)
}

/** Whether the error passes by itself. */
export function isTransient(error: unknown): boolean {
  return error instanceof ManyhostError && error.retryable
}
