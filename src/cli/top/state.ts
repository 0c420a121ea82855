/** What `top` knows: the rows of the event stream, their recent past, and what failed. Pure. */
import type { Failure } from '../../gateway/admin/failures.ts'
import type { Row } from '../../gateway/admin/rows.ts'

export type { Row }

/** The message of the event stream that comes each second. */
export interface Snapshot {
  readonly whole?: boolean
  readonly clusters: readonly Row[]
  readonly gone?: readonly string[]
  readonly failures?: readonly Failure[]
}

export interface TopState {
  /** By URL, in the order of the session. */
  readonly rows: Map<string, Row>
  /** Requests a second, the last ones, by URL. */
  readonly rates: Map<string, number[]>
  failures: Failure[]
  /** URL of the chosen service. */
  chosen: string | undefined
  /** What is wrong with the connection, if something is. */
  trouble: string | undefined
  /** What the last key brought about. */
  said: string
}

/** Rates that are kept: as many as a sparkline shows. */
const KEPT = 24
const FAILURES = 20

export function emptyState(): TopState {
  return {
    rows: new Map(),
    rates: new Map(),
    failures: [],
    chosen: undefined,
    trouble: undefined,
    said: '',
  }
}

export function take(state: TopState, { whole, clusters, gone, failures }: Snapshot): void {
  if (whole) state.rows.clear()
  for (const row of clusters) state.rows.set(row.url, row)
  for (const url of gone ?? []) {
    state.rows.delete(url)
    state.rates.delete(url)
  }
  for (const { url, rate } of state.rows.values()) {
    // The first snapshot has no second behind it.
    const known = state.rates.get(url) ?? []
    state.rates.set(url, whole ? known : [...known, rate].slice(-KEPT))
  }
  if (failures) {
    const ids = new Set(failures.map(({ id }) => id))
    const old = whole ? [] : state.failures.filter(({ id }) => !ids.has(id))
    state.failures = [...old, ...failures].slice(-FAILURES)
  }
  if (!state.chosen || !state.rows.has(state.chosen)) state.chosen = state.rows.keys().next().value
}

/** Chooses the service that is so many rows further down. */
export function move(state: TopState, by: number): void {
  const urls = [...state.rows.keys()]
  const index = urls.indexOf(state.chosen ?? '')
  state.chosen = urls[Math.max(0, Math.min(urls.length - 1, index + by))]
}
