/** What all operations of a store stand on. */
import type { Kysely } from 'kysely'
import { wallClock } from '../../core/time.ts'
import { createQuery, type DatabaseEngine, type Statements } from '../../store/engine.ts'
import type { HeartbeatMonitor } from './heartbeat-monitor.ts'
import type { PreparedStatements } from './prepared-statements.ts'
import type { StoreTables } from './tables.ts'

export interface StoreContext {
  readonly engine: DatabaseEngine
  readonly db: Kysely<StoreTables>
  readonly prepared: PreparedStatements
  /** What this store has seen of the servers' beats. */
  readonly heartbeats: HeartbeatMonitor
  /** Tells those who listen in this process that there is something to claim. */
  readonly notifyAdded: () => void
}

const CLOCK = createQuery(
  'SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS at',
)

/**
 * Milliseconds since 1970 on the store's clock, which all servers share: the database's where that is a machine of its
 * own, else this machine's. For what people read: no lease is judged by it.
 */
export async function readStoreClock(
  { engine }: StoreContext,
  on: Statements = engine,
): Promise<number> {
  if (engine.kind === 'sqlite') return wallClock()
  return (await on.all<{ at: number }>(CLOCK))[0]?.at ?? wallClock()
}
