/** The life of an instance: one table. `instance.ts` is its one writer. */
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

/** Counts against the wanted size: it serves, or may come to. */
export function isLive(state: InstanceState): boolean {
  return state === 'pending' || state === 'starting' || state === 'ready' || state === 'unready'
}

/** It has come up, and is not on its way out. */
export function isUp(state: InstanceState): boolean {
  return state === 'ready' || state === 'unready'
}
