/** The lifecycle of an instance, as one table. Only `instance.ts` changes a state. */
import type { InstanceState } from '../core/events.ts'

/**
 * ```
 * pending -> starting -> ready <-> unready
 *    |          |          |          |
 *    |          |          +-> draining <-+
 *    v          v               v
 *          stopped, or failed from any
 * ```
 */
export const NEXT_STATES: Readonly<Record<InstanceState, readonly InstanceState[]>> = {
  pending: ['starting', 'stopped', 'failed'],
  starting: ['ready', 'draining', 'stopped', 'failed'],
  ready: ['unready', 'draining', 'stopped', 'failed'],
  unready: ['ready', 'draining', 'stopped', 'failed'],
  draining: ['stopped', 'failed'],
  stopped: [],
  failed: [],
}

export function canTransition(from: InstanceState, to: InstanceState): boolean {
  return NEXT_STATES[from].includes(to)
}

/** Whether an instance in this state counts against the wanted size: it serves requests, or may do so later. */
export function isLive(state: InstanceState): boolean {
  return state === 'pending' || state === 'starting' || state === 'ready' || state === 'unready'
}

/** Whether an instance in this state has been ready, and is not about to end. */
export function isUp(state: InstanceState): boolean {
  return state === 'ready' || state === 'unready'
}
