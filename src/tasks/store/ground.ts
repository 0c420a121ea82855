/** What all operations of a store stand on. */
import type { Kysely } from 'kysely'
import { wallClock } from '../../time.ts'
import { type Engine, query, type Statements } from './engine.ts'
import type { Hot } from './hot.ts'
import type { Tables } from './tables.ts'

export interface Ground {
  readonly engine: Engine
  readonly db: Kysely<Tables>
  readonly hot: Hot
  /** Tells those who listen in this process that there is something to claim. */
  readonly added: () => void
}

const CLOCK = query('SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS at')

/**
 * Milliseconds since 1970 on the store's clock, which all servers share: the database's where that is a machine of its
 * own, else this machine's. Leases are never judged by the clock of who holds them.
 */
export async function storeClock({ engine }: Ground, on: Statements = engine): Promise<number> {
  if (engine.kind === 'sqlite') return wallClock()
  return (await on.all<{ at: number }>(CLOCK))[0]?.at ?? wallClock()
}
