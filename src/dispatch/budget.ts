/**
 * A resend budget: a service whose instances all fail must not get five times the load because of that. Resends beyond
 * the budget are delayed, not refused, because a refusal would lose requests.
 * Source: the retry budget of Finagle (com.twitter.finagle.service.RetryBudget), with delay in place of refusal.
 */
import { backoffDelay } from '../core/backoff.ts'

export interface BudgetState {
  /** Resends that may go at once. Below 0: resends that were given a later time. */
  tokens: number
  /** When `tokens` was last updated, on the clock of `now()`. */
  updatedAt: number
}

/** Resends that may come in one burst, as when many instances fail together. */
const BURST = 1_000
/** Resends per millisecond that are always allowed. */
const MIN_RESENDS_PER_MS = 10 / 1_000
/** Share of all requests that may be resends. */
const RESEND_SHARE = 0.2
/** Longest delay of a resend because of the budget, in ms. */
const MAX_BUDGET_WAIT = 5_000
/** Longest wait of a resend for an instance that has not failed it, in ms. */
const MAX_DEFER_TIMEOUT = 8_000

export function createBudget(now: number): BudgetState {
  return { tokens: BURST, updatedAt: now }
}

/** A request has arrived: it adds its share to the budget. */
export function deposit(state: BudgetState): void {
  if (state.tokens < BURST) state.tokens += RESEND_SHARE
}

/** Takes one resend out of the budget. Returns how many ms it has to wait. */
export function withdraw(state: BudgetState, now: number): number {
  state.tokens = Math.min(
    BURST,
    state.tokens + Math.max(0, now - state.updatedAt) * MIN_RESENDS_PER_MS,
  )
  state.updatedAt = now
  // A larger debt would delay the recovery without reducing the load, because no wait is longer than the longest.
  state.tokens = Math.max(state.tokens - 1, -MAX_BUDGET_WAIT * MIN_RESENDS_PER_MS)
  return state.tokens >= 0 ? 0 : -state.tokens / MIN_RESENDS_PER_MS
}

/** Delay in ms before the third attempt, and its limit for later ones. */
const RESEND_BACKOFF = { min: 10, max: 1_000 }

/**
 * Delay in ms before attempt `attempt` (2, 3, ...) on instances that live. The second attempt has none. Later attempts
 * back off, so that an instance that refuses at once does not get five attempts within a millisecond.
 */
export function resendBackoff(attempt: number, random: () => number): number {
  return attempt <= 2 ? 0 : backoffDelay(attempt - 3, RESEND_BACKOFF, random)
}

/**
 * How long a resend waits for an instance that has not failed it, while an instance that has is free. One failure may be
 * chance: it is 1 s after the first one, and doubles with each further one. It is at most half of the time that the
 * request has left, so that time remains for the attempt itself. In ms.
 * Source: the retry predicate `previous_hosts` of Envoy, which draws another host a bounded number of times.
 */
export function deferTimeout(failures: number, remainingMs: number): number {
  return Math.min(1_000 * 2 ** (failures - 1), MAX_DEFER_TIMEOUT, remainingMs / 2)
}
