/** What `top` knows: the rows of the event stream, their recent past, and what failed. Pure. */

import type { ClusterRow } from '../../gateway/admin/cluster-rows.ts'
import type { RecentFailure } from '../../gateway/admin/recent-failures.ts'

export type { ClusterRow }

/** The message of the event stream that comes each second. */
export interface TopSnapshot {
  readonly whole?: boolean
  readonly clusters: readonly ClusterRow[]
  readonly gone?: readonly string[]
  readonly failures?: readonly RecentFailure[]
}

export interface TopState {
  /** By URL, in the order of the session. */
  readonly rows: Map<string, ClusterRow>
  /** Requests a second, the last ones, by URL. */
  readonly rates: Map<string, number[]>
  failures: RecentFailure[]
  /** URL of the chosen service. */
  selectedUrl: string | undefined
  /** What is wrong with the connection, if something is. */
  connectionProblem: string | undefined
  /** What the last key brought about. */
  message: string
}

/** Rates that are kept: as many as a sparkline shows. */
const MAX_RATES = 24
const MAX_FAILURES = 20

export function createTopState(): TopState {
  return {
    rows: new Map(),
    rates: new Map(),
    failures: [],
    selectedUrl: undefined,
    connectionProblem: undefined,
    message: '',
  }
}

export function applySnapshot(
  state: TopState,
  { whole, clusters, gone, failures }: TopSnapshot,
): void {
  if (whole) state.rows.clear()
  for (const row of clusters) state.rows.set(row.url, row)
  for (const url of gone ?? []) {
    state.rows.delete(url)
    state.rates.delete(url)
  }
  for (const { url, rate } of state.rows.values()) {
    // The first snapshot has no second behind it.
    const known = state.rates.get(url) ?? []
    state.rates.set(url, whole ? known : [...known, rate].slice(-MAX_RATES))
  }
  if (failures) {
    const ids = new Set(failures.map(({ id }) => id))
    const old = whole ? [] : state.failures.filter(({ id }) => !ids.has(id))
    state.failures = [...old, ...failures].slice(-MAX_FAILURES)
  }
  if (!state.selectedUrl || !state.rows.has(state.selectedUrl))
    state.selectedUrl = state.rows.keys().next().value
}

/** Chooses the service that is so many rows further down. */
export function moveSelection(state: TopState, by: number): void {
  const urls = [...state.rows.keys()]
  const index = urls.indexOf(state.selectedUrl ?? '')
  state.selectedUrl = urls[Math.max(0, Math.min(urls.length - 1, index + by))]
}
