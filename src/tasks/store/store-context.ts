/** What every operation of a store works with. */
import { wallClock } from '../../core/time.ts'
import { createQuery, type DatabaseEngine, type Statements } from '../../store/engine.ts'
import type { HeartbeatMonitor } from './heartbeat-monitor.ts'
import type { Partitions } from './partitions.ts'
import type { PreparedStatements } from './prepared-statements.ts'
import type { StorePart } from './store-part.ts'

export interface StoreContext extends StorePart {
  readonly prepared: PreparedStatements
  /** What this store has seen of the servers' heartbeats. */
  readonly heartbeats: HeartbeatMonitor
  readonly partitions: Partitions
  /** Whether partitions are read with the store. */
  readonly readsPartitions: boolean
  /** Tells the listeners of this process that there is something to claim. */
  readonly notifyAdded: () => void
}

/** The store and all its partitions, oldest first. */
export async function listAllParts(context: StoreContext): Promise<StorePart[]> {
  return [...(await context.partitions.openAll()), context]
}

/** What reads look at: the store, and its partitions where it was opened with them. */
export async function listReadParts(context: StoreContext): Promise<StorePart[]> {
  return context.readsPartitions ? listAllParts(context) : [context]
}

const CLOCK = createQuery(
  'SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS at',
)

/**
 * Milliseconds since 1970 on the clock that all servers of a store share: the database's where it is a server of its own,
 * else this machine's. It is for people to read; leases do not depend on it.
 */
export async function readStoreClock(
  { engine }: { readonly engine: DatabaseEngine },
  on: Statements = engine,
): Promise<number> {
  if (engine.kind === 'sqlite') return wallClock()
  return (await on.all<{ at: number }>(CLOCK))[0]?.at ?? wallClock()
}
