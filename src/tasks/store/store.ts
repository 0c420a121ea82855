/**
 * The durable store of tasks. All that is said of a task is said here, in transactions; whoever was told that a thing is
 * done finds it done after any crash. Many servers may work on one store: no two of them ever hold the same claim.
 */
import { hostname } from 'node:os'
import { ManyhostError } from '../../core/errors.ts'
import { createPrivateFile } from '../../core/private-files.ts'
import { createQuery, createQueryBuilder, type DatabaseEngine } from '../../store/engine.ts'
import type { NewTask, Task, TaskOutcome } from '../model/task.ts'
import { addTasks, type SubmissionInfo } from './add-tasks.ts'
import {
  type AdoptOptions,
  adoptTasks,
  type CancelledQuery,
  findOtherBatches,
  takeCancelled,
  type UnfinishedTasks,
} from './batches.ts'
import {
  cancelTasks,
  deleteTasks,
  releaseClaims,
  revertTasks,
  type TaskChanges,
  updateTasks,
} from './change-tasks.ts'
import {
  claimTasks,
  completeTasks,
  confirmClaims,
  type TaskClaim,
  type TaskClaimOptions,
  type TaskCompletionResult,
} from './claims.ts'
import {
  computeProgress,
  computeProgressPressure,
  countGroups,
  decideGroupTurn,
  type OutcomeSample,
  type StoreProgress,
  sumCounts,
  type TaskCountRow,
  type TaskGroup,
  type TaskGroupTurn,
  type TaskStateCounts,
} from './counts.ts'
import type { TaskFilter } from './filter.ts'
import {
  countTasks,
  findCurrentGroup,
  findTasks,
  type ListOptions,
  listTagKeys,
  listTagValues,
  listTasks,
} from './find-tasks.ts'
import { HeartbeatMonitor } from './heartbeat-monitor.ts'
import type { TaskOrder } from './order.ts'
import { Partitions, partitionPath, type StorePart } from './partitions.ts'
import { prepareStatements } from './prepared-statements.ts'
import {
  connectClient,
  disconnectClient,
  listClients,
  listServers,
  recordHeartbeat,
  recoverTasks,
  registerServer,
  type ServedTasks,
  type StoreClientRecord,
  type StoreRecovery,
  type StoreServerRecord,
  unregisterServer,
} from './servers.ts'
import { readStoreClock, type StoreContext } from './store-context.ts'
import type { StoreTables } from './tables.ts'

/** Outcomes that the rate is taken from. */
const MAX_SAMPLES = 1_000
const SAMPLE_PERIOD = 60_000

/** Closed by who opened it. All times are milliseconds since 1970. */
export type Store = Pick<DatabaseStore, keyof DatabaseStore>

/** On an engine that this thread speaks with itself. */
export class DatabaseStore implements AsyncDisposable {
  readonly #engine: DatabaseEngine
  readonly #context: StoreContext
  readonly #partitions: Partitions
  readonly #readsPartitions: boolean
  readonly #listeners = new Set<() => void>()
  #stopListening: (() => void) | undefined

  /** Made by `openStore`. */
  constructor(engine: DatabaseEngine, schema: string, arePartitionsRead: boolean) {
    this.#engine = engine
    this.#context = {
      engine,
      db: createQueryBuilder<StoreTables>(engine.kind),
      prepared: prepareStatements(engine.dialect),
      heartbeats: new HeartbeatMonitor(),
      notifyAdded: () => this.#notifyListeners(),
    }
    this.#partitions = new Partitions(this.#context, schema)
    this.#readsPartitions = arePartitionsRead
  }

  /** Where it is, without a password. */
  get name(): string {
    return this.#engine.name
  }

  get kind(): 'sqlite' | 'postgres' {
    return this.#engine.kind
  }

  // The way through: in, claimed, confirmed, completed.

  /**
   * Takes tasks in, all of them or none; answers their ids in order.
   * @throws ManyhostError MANYHOST_INVALID_TASK; `taskProblem` tells before
   */
  add(tasks: readonly NewTask[], by: SubmissionInfo = {}): Promise<string[]> {
    return addTasks(this.#context, tasks, by)
  }

  /**
   * Gives tasks to a server, in the order of their groups, then of their submission; failed ones with attempts left come
   * after the new ones (`eager`: before them), as new rows. Nothing: see `turn()`.
   * @throws ManyhostError MANYHOST_SERVER_EVICTED
   */
  claim(options: TaskClaimOptions): Promise<Task[]> {
    return claimTasks(this.#context, options)
  }

  /** Notes which client has them. Answers the ids of those that are still claimed under that fence. */
  confirm(client: string, host: string, claims: readonly TaskClaim[]): Promise<string[]> {
    return confirmClaims(this.#context, client, host, claims)
  }

  /**
   * Keeps outcomes. One of a claim that was taken back meanwhile is refused, and counted in `refusals()`.
   * @param attempts how often a task is tried in all, where that is known: one that failed and has attempts left can be cancelled
   */
  complete(
    outcomes: readonly TaskOutcome[],
    attempts: number | null = null,
  ): Promise<TaskCompletionResult> {
    return completeTasks(this.#context, outcomes, attempts)
  }

  /** Gives claims back that could not be handed on. Answers how many were still held. */
  release(claims: readonly TaskClaim[]): Promise<number> {
    return releaseClaims(this.#context, claims)
  }

  /**
   * Gives the waiting tasks of a folder, which no living run works off, to a batch. Answers how many can be claimed.
   */
  adopt(adoption: AdoptOptions): Promise<number> {
    return adoptTasks(this.#context, adoption)
  }

  /** What batches other than this one have left, and nobody works off; the largest first. */
  otherBatches(batch: string): Promise<UnfinishedTasks[]> {
    return findOtherBatches(this.#context, batch)
  }

  /** Some of the tasks that were cancelled while nobody had claimed them; each is answered once. */
  takeCancelled(noting: CancelledQuery): Promise<Task[]> {
    return takeCancelled(this.#context, noting)
  }

  // Changed by hand: all that fit, or the first so many of an order. Each answers how many tasks it changed.

  /** Back to the queue, as if never claimed; of a task that was tried again, the last attempt. */
  revert(filter: TaskFilter, order: TaskOrder = {}): Promise<number> {
    return revertTasks(this.#context, filter, order)
  }

  /** Exit status -1 for what has no outcome yet, or waits for its next attempt; one that still comes is refused. */
  cancel(filter: TaskFilter, order: TaskOrder = {}): Promise<number> {
    return cancelTasks(this.#context, filter, order)
  }

  delete(filter: TaskFilter, order: TaskOrder = {}): Promise<number> {
    return deleteTasks(this.#context, filter, order)
  }

  update(filter: TaskFilter, changes: TaskChanges, order: TaskOrder = {}): Promise<number> {
    return updateTasks(this.#context, filter, changes, order)
  }

  // Looked at. Partitions are read with the store, unless it was opened without them.

  /** @throws ManyhostError MANYHOST_UNKNOWN_TASK */
  async get(id: string): Promise<Task> {
    const [task] = await this.find([id])
    if (task) return task
    throw new ManyhostError(
      'MANYHOST_UNKNOWN_TASK',
      `there is no task ${id.slice(0, 100)} in ${this.name}`,
    )
  }

  /** Those that are there, in the order of the ids. */
  async find(ids: readonly string[]): Promise<Task[]> {
    const here = await findTasks([this.#context], ids)
    return here.length === ids.length ? here : findTasks(await this.#readableParts(), ids)
  }

  /** Read page by page: memory does not grow with what is listed, but for a number a task where `sort` is given. */
  async *list(
    filter: TaskFilter = {},
    options: ListOptions = {},
  ): AsyncGenerator<Task, void, undefined> {
    yield* listTasks(await this.#readableParts(), filter, options)
  }

  async count(filter: TaskFilter = {}): Promise<number> {
    return countTasks(await this.#readableParts(), filter)
  }

  /** By state, partitions not included; of some batches, or of all. */
  async counts(batches?: readonly string[]): Promise<TaskStateCounts> {
    return sumCounts(await this.#readCounts(batches))
  }

  async tagKeys(): Promise<string[]> {
    return listTagKeys(await this.#readableParts())
  }

  async tagValues(key: string): Promise<unknown[]> {
    return listTagValues(await this.#readableParts(), key)
  }

  /** In their order. @param attempts how often a task is tried in all */
  async groups(attempts = 1, batches?: readonly string[]): Promise<TaskGroup[]> {
    return countGroups(await this.#readCounts(batches), attempts)
  }

  /** The group that is worked on: that of what was claimed last, else of what ended last, else the first; 0 without tasks. */
  async currentGroup(): Promise<number> {
    return findCurrentGroup(this.#context)
  }

  /** Which group's turn it is; `blocked` by one whose tasks failed for good. */
  async groupTurn(attempts = 1, batches?: readonly string[]): Promise<TaskGroupTurn> {
    return decideGroupTurn(await this.groups(attempts, batches))
  }

  /** Tasks without a final outcome. */
  async remaining(attempts = 1): Promise<number> {
    return (await this.groups(attempts)).reduce((sum, { remaining }) => sum + remaining, 0)
  }

  /** TaskStateCounts, rate, average duration and time left; see `pressureOf` for what scaling makes of them. */
  async progress(attempts = 1, batches?: readonly string[]): Promise<StoreProgress> {
    const { db } = this.#context
    const at = await readStoreClock(this.#context)
    let sampled = db
      .selectFrom('task')
      .select(['completion_time', 'duration'])
      .where('completion_time', '>', at - SAMPLE_PERIOD)
      .orderBy('completion_time', 'desc')
      .limit(MAX_SAMPLES)
    if (batches) sampled = sampled.where('batch', 'in', batches)
    const samples = await this.#engine.all<OutcomeSample>(sampled.compile())
    const counted = await this.#readCounts(batches)
    return computeProgress(countGroups(counted, attempts), sumCounts(counted), samples, at)
  }

  /** Above 1 more hands are wanted: how many times longer than `factor` average tasks the rest takes; null: unknown. */
  async pressure(factor = 1, attempts = 1): Promise<number | null> {
    return computeProgressPressure(await this.progress(attempts), factor)
  }

  /** Outcomes that came too late, ever. */
  async numRefused(): Promise<number> {
    const [row] = await this.#engine.all<{ value: number }>(
      createQuery("SELECT value FROM meta WHERE name = 'refused'"),
    )
    return row?.value ?? 0
  }

  // Servers and clients.

  /** Registers a server; answers its id, which claims and beats name. @param serving all of no batch, unless said */
  registerServer(host: string = hostname(), id?: string, serving?: ServedTasks): Promise<string> {
    return registerServer(this.#context, host, id, serving)
  }

  /** To be called well within the lease. False: this server was found dead, and is to stop or join anew. */
  heartbeat(server: string): Promise<boolean> {
    return recordHeartbeat(this.#context, server)
  }

  /** Ends a server; what it holds goes back to the queue. */
  unregisterServer(server: string): Promise<number> {
    return unregisterServer(this.#context, server)
  }

  /**
   * Ends servers that this store has not seen beat for `lease` ms, but for those in `alive`, and gives back every task that
   * nobody alive holds. To be called several times a lease: silence is what was looked at.
   */
  recover(lease: number, alive: readonly string[] = []): Promise<StoreRecovery> {
    return recoverTasks(this.#context, lease, alive)
  }

  servers(): Promise<StoreServerRecord[]> {
    return listServers(this.#context)
  }

  connectClient(
    client: Pick<StoreClientRecord, 'id' | 'host' | 'serverId' | 'serverHost'>,
  ): Promise<void> {
    return connectClient(this.#context, client)
  }

  /** A client is gone; what it holds goes back to the queue. Answers how many tasks that were. */
  disconnectClient(
    client: string,
    { isEvicted = false }: { isEvicted?: boolean } = {},
  ): Promise<number> {
    return disconnectClient(this.#context, client, isEvicted)
  }

  clients(server?: string): Promise<StoreClientRecord[]> {
    return listClients(this.#context, server)
  }

  /**
   * Calls back when there may be something to claim, whoever handed it in: at once for this process, within some 10 ms
   * for others. It may call in vain. Answers how to stop.
   */
  onAdded(listener: () => void): () => void {
    const own = (): void => listener()
    this.#listeners.add(own)
    this.#stopListening ??= this.#engine.onWake(() => this.#notifyListeners())
    return () => {
      this.#listeners.delete(own)
      if (this.#listeners.size > 0) return
      this.#stopListening?.()
      this.#stopListening = undefined
    }
  }

  // Upkeep.

  /** Moves what is over into a new partition, with the tag `part:N`. Failures stay: they may be tried again. */
  rotate(): Promise<{ moved: number; partition: number }> {
    return this.#partitions.rotate()
  }

  /** Gives space back. On SQLite nothing else is done with the store meanwhile. */
  async vacuum(): Promise<void> {
    await this.#engine.script(this.#engine.dialect.vacuum('task'))
    if (this.kind === 'sqlite')
      await this.#engine.all(createQuery('PRAGMA wal_checkpoint(TRUNCATE)'))
  }

  /**
   * Copies the store and its partitions as they are now to a path, for this user alone. Nothing else is done with the store
   * meanwhile.
   * @throws ManyhostError MANYHOST_UNSUPPORTED on PostgreSQL, which has pg_dump
   */
  async backup(path: string): Promise<void> {
    if (this.kind === 'postgres') {
      throw new ManyhostError(
        'MANYHOST_UNSUPPORTED',
        'backup: a PostgreSQL is backed up by pg_dump',
      )
    }
    await copyDatabase(this.#engine, path)
    const places = await this.#partitions.openAll()
    for (const [index, { engine }] of places.entries()) {
      await copyDatabase(engine, partitionPath(path, index + 1))
    }
  }

  /** Removes every task, client and server that ended; partitions too. Answers how many tasks there were. */
  async truncate(): Promise<number> {
    let count = 0
    for (const { engine, db } of await this.#allParts()) {
      count += await engine.transaction(async (statements) => {
        const removed = await statements.run(db.deleteFrom('task').compile())
        await statements.run(
          db.deleteFrom('client').where('disconnected_at', 'is not', null).compile(),
        )
        await statements.run(db.deleteFrom('server').where('ended_at', 'is not', null).compile())
        return removed
      })
    }
    return count
  }

  async close(): Promise<void> {
    this.#stopListening?.()
    this.#listeners.clear()
    await this.#partitions.close()
    await this.#engine.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** What the store's own connection answers to any statement. For tests. @internal */
  statement(sql: string, ...parameters: unknown[]): Promise<Record<string, unknown>[]> {
    return this.#engine.all(createQuery(sql, ...parameters))
  }

  async #readableParts(): Promise<StorePart[]> {
    return this.#readsPartitions ? this.#allParts() : [this.#context]
  }

  async #allParts(): Promise<StorePart[]> {
    return [...(await this.#partitions.openAll()), this.#context]
  }

  #readCounts(batches?: readonly string[]): Promise<TaskCountRow[]> {
    return this.#engine.all<TaskCountRow>(this.#context.prepared.counted(batches))
  }

  #notifyListeners(): void {
    for (const listener of this.#listeners) listener()
  }
}

/** The copy has all command lines in it, so it is as private as the store. SQLite fills a file that is there and empty. */
async function copyDatabase(engine: DatabaseEngine, path: string): Promise<void> {
  createPrivateFile(path)
  await engine.all(createQuery('VACUUM INTO ?', path))
}
