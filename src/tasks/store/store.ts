/**
 * The durable store of tasks. Everything about tasks is kept here, in transactions: after an operation has resolved, no crash
 * undoes it. Many servers may work on one store, and no two of them ever hold the same claim.
 */
import { createQueryBuilder, type DatabaseEngine } from '../../store/engine.ts'
import type { Task } from '../model/task.ts'
import { AddedListeners } from './added-listeners.ts'
import type { TaskFilter } from './filter.ts'
import { type ListOptions, listTasks } from './find-tasks.ts'
import { HeartbeatMonitor } from './heartbeat-monitor.ts'
import { bindOperations, STORE_OPERATIONS, type StoreOperations } from './operations.ts'
import { Partitions } from './partitions.ts'
import { prepareStatements } from './prepared-statements.ts'
import type { StoreContext } from './store-context.ts'
import type { StoreTables } from './tables.ts'

/** All times are milliseconds since 1970. Whoever opens a store closes it. */
export interface Store extends StoreOperations, AsyncDisposable {
  /** The path or the address, without a password. */
  readonly name: string
  readonly kind: 'sqlite' | 'postgres'
  /** Reads page by page, so that memory does not grow with the list, except for one number per task where `sort` is given. */
  list(filter?: TaskFilter, options?: ListOptions): AsyncGenerator<Task, void, undefined>
  /**
   * Calls back when there may be something to claim, whoever added it: at once for this process, within some 10 ms for
   * others. It may call although there is nothing. Returns the function that stops this.
   */
  onAdded(listener: () => void): () => void
  close(): Promise<void>
}

/** A store on an engine that this thread uses itself. `openStore` opens it. */
export function createDatabaseStore(
  engine: DatabaseEngine,
  schema: string,
  readsPartitions: boolean,
): Store {
  const db = createQueryBuilder<StoreTables>(engine.kind)
  const listeners = new AddedListeners(() => engine.onWake(() => listeners.notify()))
  const context: StoreContext = {
    engine,
    db,
    prepared: prepareStatements(engine.dialect),
    heartbeats: new HeartbeatMonitor(),
    partitions: new Partitions({ engine, db }, schema),
    readsPartitions,
    notifyAdded: () => listeners.notify(),
  }
  const close = async (): Promise<void> => {
    listeners.close()
    await context.partitions.close()
    await engine.close()
  }
  return {
    ...bindOperations((name) => (STORE_OPERATIONS[name] as BoundLater).bind(undefined, context)),
    name: engine.name,
    kind: engine.kind,
    list: (filter, options) => listTasks(context, filter, options),
    onAdded: (listener) => listeners.add(listener),
    close,
    [Symbol.asyncDispose]: close,
  }
}

type BoundLater = (context: StoreContext, ...args: never[]) => Promise<unknown>
