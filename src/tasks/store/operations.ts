/**
 * The operations of a store, each written once: by their name, with the function that performs them. The methods of a
 * `Store`, the proxy of the thread, and their types are all derived from this table.
 */
import { addTasks } from './add-tasks.ts'
import { adoptTasks, findOtherBatches, takeCancelled } from './batches.ts'
import {
  cancelTasks,
  deleteTasks,
  releaseClaims,
  revertTasks,
  updateTasks,
} from './change-tasks.ts'
import { claimTasks } from './claim-tasks.ts'
import { completeTasks, confirmClaims } from './complete-tasks.ts'
import {
  countTasks,
  findCurrentGroup,
  findTasks,
  getTask,
  listTagKeys,
  listTagValues,
} from './find-tasks.ts'
import {
  backUpStore,
  rotateStore,
  runStatement,
  truncateStore,
  vacuumStore,
} from './maintenance.ts'
import {
  countRefusedOutcomes,
  countRemaining,
  readGroups,
  readGroupTurn,
  readPressure,
  readProgress,
  readStateCounts,
} from './progress.ts'
import {
  connectClient,
  disconnectClient,
  listClients,
  listServers,
  recordHeartbeat,
  recoverTasks,
  registerServer,
  unregisterServer,
} from './servers.ts'
import type { StoreContext } from './store-context.ts'

export const STORE_OPERATIONS = {
  // The way of a task: it is added, claimed, confirmed and completed.

  /**
   * Adds tasks: all of them, or none. Returns their ids, in order.
   * @throws ManyhostError MANYHOST_INVALID_TASK
   */
  add: addTasks,
  /**
   * Gives tasks to a server, in the order of their groups, then of their submission. Failed tasks with attempts left come
   * after the new ones (with `eager`: before them), as new rows. `groupTurn()` says why there are none.
   * @throws ManyhostError MANYHOST_SERVER_EVICTED
   */
  claim: claimTasks,
  /** Notes which client has these tasks. Returns the ids of those that are still claimed under that fence. */
  confirm: confirmClaims,
  /**
   * Keeps outcomes. The outcome of a claim that was taken back meanwhile is refused, and counted in `numRefused()`.
   * @param attempts how often a task is tried in all, where that is known: a failed task with attempts left can be cancelled
   */
  complete: completeTasks,
  /** Gives claims back that could not be passed on to a client. Returns how many of them were still held. */
  release: releaseClaims,
  /**
   * Moves the waiting tasks of a folder, that no live server works on, into a batch. Returns how many can be claimed.
   */
  adopt: adoptTasks,
  /** Unfinished tasks of batches other than this one, the largest first. */
  otherBatches: findOtherBatches,
  /** Some of the tasks that were cancelled before any server claimed them. Each is returned to one server, once. */
  takeCancelled,

  // Changes by hand: of all tasks that match, or of the first ones of an order. Each returns how many tasks it changed.

  /** Puts tasks back into the queue, as if they were never claimed. Of a task that was retried, this is the last attempt. */
  revert: revertTasks,
  /** Ends tasks that have no outcome yet, or wait for their next attempt, with exit status -1. A later outcome is refused. */
  cancel: cancelTasks,
  delete: deleteTasks,
  update: updateTasks,

  // Reads. Partitions are read with the store, unless it was opened without them.

  /** @throws ManyhostError MANYHOST_UNKNOWN_TASK */
  get: getTask,
  /** The tasks that exist, in the order of the ids. */
  find: findTasks,
  count: countTasks,
  /** Tasks by state, without those in partitions; of some batches, or of all. */
  counts: readStateCounts,
  /** Keys of tags that are in use, sorted. */
  tagKeys: listTagKeys,
  /** Values of a tag that are in use, sorted by their JSON. */
  tagValues: listTagValues,
  /** All groups that have tasks, in their order. @param attempts how often a task is tried in all */
  groups: readGroups,
  /** The group of the task that was claimed last, else of the one that ended last, else the first group; 0 without tasks. */
  currentGroup: findCurrentGroup,
  /** The group that is worked on now, or `blocked` by a group whose tasks failed for good. */
  groupTurn: readGroupTurn,
  /** Tasks without a final outcome. */
  remaining: countRemaining,
  /** Counts, rate, average duration and time left. */
  progress: readProgress,
  /** How many times longer than `factor` average tasks the rest takes: above 1 there are too few runners. null: unknown. */
  pressure: readPressure,
  /** How many outcomes were refused because they came too late, since the store was made. */
  numRefused: countRefusedOutcomes,

  // Servers, which claim, and their clients, which run.

  /** Registers a server. Returns its id, for claims and heartbeats. It serves tasks without a batch, unless told otherwise. */
  registerServer,
  /** To be called well within the lease. False: this server was found dead. It has to stop, or to register anew. */
  heartbeat: recordHeartbeat,
  /** Ends a server. Its tasks go back to the queue. Returns how many these were. */
  unregisterServer,
  /**
   * Ends servers, except those in `alive`, that this store has not seen a heartbeat of for `lease` ms. Gives back every task
   * that no live server holds. To be called several times per lease, since only what it sees counts.
   */
  recover: recoverTasks,
  servers: listServers,
  connectClient,
  /** Notes that a client is gone. Its tasks go back to the queue. Returns how many these were. */
  disconnectClient,
  clients: listClients,

  // Upkeep.

  /** Moves finished tasks into a new partition, with the tag `part:N`. Failures stay, since they may be tried again. */
  rotate: rotateStore,
  /** Gives free space back. On SQLite no other operation runs meanwhile. */
  vacuum: vacuumStore,
  /**
   * Copies the store and its partitions as they are now to a path, for this user alone. No other operation runs meanwhile.
   * @throws ManyhostError MANYHOST_UNSUPPORTED on PostgreSQL, which has pg_dump
   */
  backup: backUpStore,
  /** Removes all tasks, and all clients and servers that ended, of partitions too. Returns how many tasks there were. */
  truncate: truncateStore,
  /** Runs any statement on the store's own connection. For tests. @internal */
  statement: runStatement,
} as const satisfies Readonly<
  Record<string, (context: StoreContext, ...args: never[]) => Promise<unknown>>
>

export type StoreOperation = keyof typeof STORE_OPERATIONS

type WithoutContext<Perform> = Perform extends (
  context: StoreContext,
  ...args: infer Args
) => infer Result
  ? (...args: Args) => Result
  : never

/** The operations as methods: each without its context. */
export type StoreOperations = {
  [Name in StoreOperation]: WithoutContext<(typeof STORE_OPERATIONS)[Name]>
}

/** Makes the methods of a store: `bind` is called once for each operation. */
export function bindOperations(
  bind: (name: StoreOperation) => (...args: never[]) => Promise<unknown>,
): StoreOperations {
  const names = Object.keys(STORE_OPERATIONS) as StoreOperation[]
  return Object.fromEntries(names.map((name) => [name, bind(name)])) as StoreOperations
}
