/** The state of `top`: the rows of the event stream, their recent rates, and recent failures. Pure. */
import type { ClusterRow } from '../../gateway/admin/cluster-rows.ts'
import type { RecentFailure } from '../../gateway/admin/recent-failures.ts'

/** The message that the event stream of the admin API sends each second. */
export interface TopSnapshot {
  readonly whole?: boolean
  readonly clusters: readonly ClusterRow[]
  readonly gone?: readonly string[]
  readonly failures?: readonly RecentFailure[]
}

export interface TopState {
  /** The services by URL, in the order of the session. */
  readonly rows: Map<string, ClusterRow>
  /** The last rates of each service by URL, in requests per second. */
  readonly rates: Map<string, number[]>
  failures: RecentFailure[]
  /** URL of the selected service. */
  selectedUrl: string | undefined
  /** Why there is no connection to the admin address. Undefined while there is one. */
  connectionProblem: string | undefined
  /** The result of the last key. */
  message: string
}

/** A sparkline shows this many rates. */
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
    // The first snapshot has no rate yet: it does not cover a whole second.
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

/** Selects the service that is `by` rows further down. */
export function moveSelection(state: TopState, by: number): void {
  const urls = [...state.rows.keys()]
  const index = urls.indexOf(state.selectedUrl ?? '')
  state.selectedUrl = urls[Math.max(0, Math.min(urls.length - 1, index + by))]
}
