/**
 * The durable store of tasks. All that is said of a task is said here, in transactions; whoever was told that a thing is
 * done finds it done after any crash. Many servers may work on one store: no two of them ever hold the same claim.
 */
import { hostname } from 'node:os'
import { ManyhostError } from '../../core/errors.ts'
import { createPrivateFile } from '../../posix/private.ts'
import type { NewTask, Task, TaskOutcome } from '../task.ts'
import {
  type Adoption,
  adopt,
  type Left,
  leftBeside,
  type Noting,
  noteCancelled,
} from './batches.ts'
import { type Changes, cancel, release, remove, revert, update } from './changes.ts'
import {
  type Claim,
  type ClaimOptions,
  type Completed,
  claim,
  complete,
  confirm,
} from './claims.ts'
import {
  type Counted,
  type Counts,
  type Group,
  groupsOf,
  type Progress,
  pressureOf,
  progressOf,
  type Sample,
  summed,
  type Turn,
  turnOf,
} from './counts.ts'
import { builder, type Engine, query } from './engine.ts'
import type { TaskFilter } from './filter.ts'
import { type Ground, storeClock } from './ground.ts'
import { hotStatements } from './hot.ts'
import { add, type Submitter } from './intake.ts'
import { count, currentGroup, get, type ListOptions, list, tagKeys, tagValues } from './look.ts'
import type { Order } from './order.ts'
import { Partitions, type Place, partitionPath } from './partitions.ts'
import {
  beat,
  type Client,
  clients,
  connect,
  disconnect,
  join,
  leave,
  type Recovered,
  recover,
  type Server,
  type Serving,
  servers,
} from './servers.ts'
import { Silences } from './silence.ts'

/** Outcomes that the rate is taken from. */
const SAMPLES = 1_000
const SAMPLED_FOR = 60_000

/** Closed by who opened it. All times are milliseconds since 1970. */
export type Store = Pick<EngineStore, keyof EngineStore>

/** On an engine that this thread speaks with itself. */
export class EngineStore implements AsyncDisposable {
  readonly #engine: Engine
  readonly #ground: Ground
  readonly #partitions: Partitions
  readonly #arePartitionsRead: boolean
  readonly #listeners = new Set<() => void>()
  #stopListening: (() => void) | undefined

  /** Made by `openStore`. */
  constructor(engine: Engine, schema: string, arePartitionsRead: boolean) {
    this.#engine = engine
    this.#ground = {
      engine,
      db: builder(engine.kind),
      hot: hotStatements(engine.kind),
      silences: new Silences(),
      added: () => this.#tell(),
    }
    this.#partitions = new Partitions(this.#ground, schema)
    this.#arePartitionsRead = arePartitionsRead
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
  add(tasks: readonly NewTask[], by: Submitter = {}): Promise<string[]> {
    return add(this.#ground, tasks, by)
  }

  /**
   * Gives tasks to a server, in the order of their groups, then of their submission; failed ones with attempts left come
   * after the new ones (`eager`: before them), as new rows. Nothing: see `turn()`.
   * @throws ManyhostError MANYHOST_SERVER_EVICTED
   */
  claim(options: ClaimOptions): Promise<Task[]> {
    return claim(this.#ground, options)
  }

  /** Notes which client has them. Answers the ids of those that are still claimed under that fence. */
  confirm(client: string, host: string, claims: readonly Claim[]): Promise<string[]> {
    return confirm(this.#ground, client, host, claims)
  }

  /**
   * Keeps outcomes. One of a claim that was taken back meanwhile is refused, and counted in `refusals()`.
   * @param attempts how often a task is tried in all, where that is known: one that failed and has attempts left can be cancelled
   */
  complete(outcomes: readonly TaskOutcome[], attempts: number | null = null): Promise<Completed> {
    return complete(this.#ground, outcomes, attempts)
  }

  /** Gives claims back that could not be handed on. Answers how many were still held. */
  release(claims: readonly Claim[]): Promise<number> {
    return release(this.#ground, claims)
  }

  /**
   * Gives the waiting tasks of a folder, which no living run works off, to a batch. Answers how many can be claimed.
   */
  adopt(adoption: Adoption): Promise<number> {
    return adopt(this.#ground, adoption)
  }

  /** What batches other than this one have left, and nobody works off; the largest first. */
  leftBeside(batch: string): Promise<Left[]> {
    return leftBeside(this.#ground, batch)
  }

  /** Some of the tasks that were cancelled while nobody had claimed them; each is answered once. */
  noteCancelled(noting: Noting): Promise<Task[]> {
    return noteCancelled(this.#ground, noting)
  }

  // Changed by hand: all that fit, or the first so many of an order. Each answers how many tasks it changed.

  /** Back to the queue, as if never claimed; of a task that was tried again, the last attempt. */
  revert(filter: TaskFilter, order: Order = {}): Promise<number> {
    return revert(this.#ground, filter, order)
  }

  /** Exit status -1 for what has no outcome yet, or waits for its next attempt; one that still comes is refused. */
  cancel(filter: TaskFilter, order: Order = {}): Promise<number> {
    return cancel(this.#ground, filter, order)
  }

  delete(filter: TaskFilter, order: Order = {}): Promise<number> {
    return remove(this.#ground, filter, order)
  }

  update(filter: TaskFilter, changes: Changes, order: Order = {}): Promise<number> {
    return update(this.#ground, filter, changes, order)
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
    const here = await get([this.#ground], ids)
    return here.length === ids.length ? here : get(await this.#places(), ids)
  }

  /** Read page by page: memory does not grow with what is listed, but for a number a task where `sort` is given. */
  async *list(
    filter: TaskFilter = {},
    options: ListOptions = {},
  ): AsyncGenerator<Task, void, undefined> {
    yield* list(await this.#places(), filter, options)
  }

  async count(filter: TaskFilter = {}): Promise<number> {
    return count(await this.#places(), filter)
  }

  /** By state, partitions not included; of some batches, or of all. */
  async counts(batches?: readonly string[]): Promise<Counts> {
    return summed(await this.#counted(batches))
  }

  async tagKeys(): Promise<string[]> {
    return tagKeys(await this.#places())
  }

  async tagValues(key: string): Promise<unknown[]> {
    return tagValues(await this.#places(), key)
  }

  /** In their order. @param attempts how often a task is tried in all */
  async groups(attempts = 1, batches?: readonly string[]): Promise<Group[]> {
    return groupsOf(await this.#counted(batches), attempts)
  }

  /** The group that is worked on: that of what was claimed last, else of what ended last, else the first; 0 without tasks. */
  async currentGroup(): Promise<number> {
    return currentGroup(this.#ground)
  }

  /** Which group's turn it is; `blocked` by one whose tasks failed for good. */
  async turn(attempts = 1, batches?: readonly string[]): Promise<Turn> {
    return turnOf(await this.groups(attempts, batches))
  }

  /** Tasks without a final outcome. */
  async remaining(attempts = 1): Promise<number> {
    return (await this.groups(attempts)).reduce((sum, { remaining }) => sum + remaining, 0)
  }

  /** Counts, rate, average duration and time left; see `pressureOf` for what scaling makes of them. */
  async progress(attempts = 1, batches?: readonly string[]): Promise<Progress> {
    const { db } = this.#ground
    const at = await storeClock(this.#ground)
    let sampled = db
      .selectFrom('task')
      .select(['completion_time', 'duration'])
      .where('completion_time', '>', at - SAMPLED_FOR)
      .orderBy('completion_time', 'desc')
      .limit(SAMPLES)
    if (batches) sampled = sampled.where('batch', 'in', batches)
    const samples = await this.#engine.all<Sample>(sampled.compile())
    const counted = await this.#counted(batches)
    return progressOf(groupsOf(counted, attempts), summed(counted), samples, at)
  }

  /** Above 1 more hands are wanted: how many times longer than `factor` average tasks the rest takes; null: unknown. */
  async pressure(factor = 1, attempts = 1): Promise<number | null> {
    return pressureOf(await this.progress(attempts), factor)
  }

  /** Outcomes that came too late, ever. */
  async refusals(): Promise<number> {
    const [row] = await this.#engine.all<{ value: number }>(
      query("SELECT value FROM meta WHERE name = 'refused'"),
    )
    return row?.value ?? 0
  }

  // Servers and clients.

  /** Registers a server; answers its id, which claims and beats name. @param serving all of no batch, unless said */
  join(host: string = hostname(), id?: string, serving?: Serving): Promise<string> {
    return join(this.#ground, host, id, serving)
  }

  /** To be called well within the lease. False: this server was found dead, and is to stop or join anew. */
  beat(server: string): Promise<boolean> {
    return beat(this.#ground, server)
  }

  /** Ends a server; what it holds goes back to the queue. */
  leave(server: string): Promise<number> {
    return leave(this.#ground, server)
  }

  /**
   * Ends servers that this store has not seen beat for `lease` ms, but for those in `alive`, and gives back every task that
   * nobody alive holds. To be called several times a lease: silence is what was looked at.
   */
  recover(lease: number, alive: readonly string[] = []): Promise<Recovered> {
    return recover(this.#ground, lease, alive)
  }

  servers(): Promise<Server[]> {
    return servers(this.#ground)
  }

  connect(client: Pick<Client, 'id' | 'host' | 'serverId' | 'serverHost'>): Promise<void> {
    return connect(this.#ground, client)
  }

  /** A client is gone; what it holds goes back to the queue. Answers how many tasks that were. */
  disconnect(client: string, { isEvicted = false }: { isEvicted?: boolean } = {}): Promise<number> {
    return disconnect(this.#ground, client, isEvicted)
  }

  clients(server?: string): Promise<Client[]> {
    return clients(this.#ground, server)
  }

  /**
   * Calls back when there may be something to claim, whoever handed it in: at once for this process, within some 10 ms
   * for others. It may call in vain. Answers how to stop.
   */
  onAdded(listener: () => void): () => void {
    const own = (): void => listener()
    this.#listeners.add(own)
    this.#stopListening ??= this.#engine.listen(() => this.#tell())
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
    await this.#engine.script(this.kind === 'sqlite' ? 'VACUUM' : 'VACUUM ANALYZE task')
    if (this.kind === 'sqlite') await this.#engine.all(query('PRAGMA wal_checkpoint(TRUNCATE)'))
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
    await copy(this.#engine, path)
    const places = await this.#partitions.places()
    for (const [index, { engine }] of places.entries()) {
      await copy(engine, partitionPath(path, index + 1))
    }
  }

  /** Removes every task, client and server that ended; partitions too. Answers how many tasks there were. */
  async truncate(): Promise<number> {
    let count = 0
    for (const { engine, db } of await this.#all()) {
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
    return this.#engine.all(query(sql, ...parameters))
  }

  async #places(): Promise<Place[]> {
    return this.#arePartitionsRead ? this.#all() : [this.#ground]
  }

  async #all(): Promise<Place[]> {
    return [...(await this.#partitions.places()), this.#ground]
  }

  #counted(batches?: readonly string[]): Promise<Counted[]> {
    return this.#engine.all<Counted>(this.#ground.hot.counted(batches))
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }
}

/** The copy has all command lines in it, so it is as private as the store. SQLite fills a file that is there and empty. */
async function copy(engine: Engine, path: string): Promise<void> {
  createPrivateFile(path)
  await engine.all(query('VACUUM INTO ?', path))
}
