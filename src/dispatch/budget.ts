/**
 * A resend budget: a service of which every instance fails must not be hit five times as hard for it. Resends beyond
 * the budget are not refused, which would lose requests, but spread over time.
 * Source: the retry budget of Finagle (com.twitter.finagle.service.RetryBudget), with delay in place of refusal.
 */

export interface BudgetState {
  /** Resends that may go at once; below 0: those that were promised a later time. */
  tokens: number
  /** When `tokens` was last brought up to date, ms. */
  updatedAt: number
}

/** Resends that may come in one burst, as when many instances die together. */
const BURST = 1_000
/** Resends a millisecond that are always allowed. */
const MIN_RESENDS_PER_MS = 10 / 1_000
/** Share of the requests that may be resends. */
const RESEND_SHARE = 0.2
/** No resend waits longer than this for the budget, in ms. */
const MAX_BUDGET_WAIT = 5_000
/** No resend waits longer than this for another instance than those that failed it, in ms. */
const MAX_DEFER_TIMEOUT = 8_000

export function createBudget(now: number): BudgetState {
  return { tokens: BURST, updatedAt: now }
}

/** A request arrived: it brings its share. */
export function deposit(state: BudgetState): void {
  if (state.tokens < BURST) state.tokens += RESEND_SHARE
}

/** Takes one resend out of the budget; answers how many ms it has to wait. */
export function withdraw(state: BudgetState, now: number): number {
  state.tokens = Math.min(
    BURST,
    state.tokens + Math.max(0, now - state.updatedAt) * MIN_RESENDS_PER_MS,
  )
  state.updatedAt = now
  // Beyond the longest wait, debt would only make the recovery later, not the load smaller.
  state.tokens = Math.max(state.tokens - 1, -MAX_BUDGET_WAIT * MIN_RESENDS_PER_MS)
  return state.tokens >= 0 ? 0 : -state.tokens / MIN_RESENDS_PER_MS
}

/**
 * Wait before attempt `attempt` (2, 3, ...) on instances that live: none before the second one, then doubling from
 * 10 ms with full jitter, so that an instance that refuses at once is not asked five times in a millisecond.
 */
export function resendBackoff(attempt: number, random: () => number): number {
  return attempt <= 2 ? 0 : Math.min(1_000, 10 * 2 ** (attempt - 3)) * (0.5 + random() / 2)
}

/**
 * How long a resend waits for an instance that has not failed it, while one that has is free: one failure may be chance,
 * so a second after the first, and twice as long after each further one; but no more than half of the `left` ms that
 * it has, so that time remains for the attempt.
 * Source: the retry predicate `previous_hosts` of Envoy, which draws another host, a bounded number of times.
 */
export function deferTimeout(failures: number, remainingMs: number): number {
  return Math.min(1_000 * 2 ** (failures - 1), MAX_DEFER_TIMEOUT, remainingMs / 2)
}
