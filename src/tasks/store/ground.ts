/** What all operations of a store stand on. */
import type { Kysely } from 'kysely'
import { wallClock } from '../../core/time.ts'
import { type Engine, query, type Statements } from './engine.ts'
import type { Hot } from './hot.ts'
import type { Silences } from './silence.ts'
import type { Tables } from './tables.ts'

export interface Ground {
  readonly engine: Engine
  readonly db: Kysely<Tables>
  readonly hot: Hot
  /** What this store has seen of the servers' beats. */
  readonly silences: Silences
  /** Tells those who listen in this process that there is something to claim. */
  readonly added: () => void
}

const CLOCK = query('SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS at')

/**
 * Milliseconds since 1970 on the store's clock, which all servers share: the database's where that is a machine of its
 * own, else this machine's. For what people read: no lease is judged by it.
 */
export async function storeClock({ engine }: Ground, on: Statements = engine): Promise<number> {
  if (engine.kind === 'sqlite') return wallClock()
  return (await on.all<{ at: number }>(CLOCK))[0]?.at ?? wallClock()
}
