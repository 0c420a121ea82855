/**
 * Servers, which claim tasks, and their clients, which run them. A server holds its claims by a lease: it sends heartbeats,
 * and the other servers watch them (`heartbeat-monitor.ts`). Any of these notices a killed server and gives its tasks back. A
 * server that was only suspended finds out at its next heartbeat or claim, and its late outcomes are refused.
 */
import { hostname } from 'node:os'
import { sql } from 'kysely'
import { wallClock } from '../../core/time.ts'
import { createQuery, type Statements } from '../../store/engine.ts'
import { unclaimTasks } from './change-tasks.ts'
import type { HeartbeatRow } from './heartbeat-monitor.ts'
import { readStoreClock, type StoreContext } from './store-context.ts'
import type { ClientTable, ServerTable } from './tables.ts'
import { newId } from './uuid.ts'

export interface StoreServerRecord {
  readonly id: string
  readonly host: string
  readonly startedAt: number
  readonly heartbeatAt: number
  readonly endedAt: number | null
  readonly isEvicted: boolean
  /** The batch that it works on; `''`: none. */
  readonly batch: string
  /** Whether it also runs tasks without a batch. */
  readonly isOpen: boolean
}

/** The tasks that a server works on. */
export type ServedTasks = Pick<StoreServerRecord, 'batch' | 'isOpen'>

export interface StoreClientRecord {
  readonly id: string
  readonly host: string
  readonly serverId: string
  readonly serverHost: string
  readonly connectedAt: number
  readonly disconnectedAt: number | null
  readonly isEvicted: boolean
}

export async function registerServer(
  context: StoreContext,
  host = hostname(),
  id = newId(),
  { batch, isOpen }: ServedTasks = { batch: '', isOpen: true },
): Promise<string> {
  const at = await readStoreClock(context)
  await context.engine.run(
    context.db
      .insertInto('server')
      .values({
        id,
        host,
        started_at: at,
        heartbeat_at: at,
        ended_at: null,
        evicted: 0,
        batch,
        is_open: isOpen ? 1 : 0,
      })
      .compile(),
  )
  return id
}

/** False: another server found this one dead and gave its tasks back. It has to stop, or to register anew. */
export async function recordHeartbeat(context: StoreContext, id: string): Promise<boolean> {
  const at = await readStoreClock(context)
  const changed = await context.engine.run(
    context.db
      .updateTable('server')
      // The number grows each time, whatever the clock does, so that other servers see the heartbeat.
      .set({
        heartbeat_at: sql`CASE WHEN heartbeat_at >= ${at} THEN heartbeat_at + 1 ELSE ${at} END`,
      })
      .where('id', '=', id)
      .where('ended_at', 'is', null)
      .compile(),
  )
  return changed === 1
}

/** Ends a server, and gives its tasks back. Returns how many these were. */
export async function unregisterServer(context: StoreContext, id: string): Promise<number> {
  const at = await readStoreClock(context)
  const count = await context.engine.transaction((statements) =>
    endServer(context, statements, id, at, false),
  )
  if (count > 0) context.notifyAdded()
  return count
}

export interface StoreRecovery {
  /** Ids of the servers that were found dead. */
  readonly servers: readonly string[]
  /** Tasks that went back to the queue. */
  readonly tasks: number
}

/**
 * Ends servers without a heartbeat for `lease` milliseconds while this store looked on, and gives back all tasks that no live
 * server holds. Every server calls it at its start, for interrupted tasks, and then regularly. Two calls at once do it once.
 * @param alive servers that are known to be alive, silent or not
 */
export async function recoverTasks(
  context: StoreContext,
  lease: number,
  alive: readonly string[] = [],
): Promise<StoreRecovery> {
  const { engine, db, heartbeats } = context
  const live = db.selectFrom('server').where('ended_at', 'is', null)
  const beats = await engine.all<HeartbeatRow>(
    live.select(['id', 'heartbeat_at']).orderBy('id').compile(),
  )
  const late = heartbeats.findSilent(beats, lease).filter(({ id }) => !alive.includes(id))
  const at = await readStoreClock(context)
  const found = await engine.transaction(async (statements) => {
    const servers: string[] = []
    let tasks = 0
    for (const { id, heartbeat_at } of late) {
      // Since the look it may have sent a heartbeat, or another server may have ended it.
      let still = live.select('id').where('id', '=', id).where('heartbeat_at', '=', heartbeat_at)
      if (engine.kind === 'postgres') still = still.forUpdate().skipLocked()
      if ((await statements.all(still.compile())).length === 0) continue
      servers.push(id)
      tasks += await endServer(context, statements, id, at, true)
    }
    const orphans = await statements.all<{ server_id: string }>(SELECT_ORPHANS)
    for (const { server_id } of orphans) {
      tasks += await unclaimTasks(context, statements, { server: server_id })
    }
    if (tasks > 0) await engine.wake(statements)
    return { servers, tasks }
  })
  if (found.tasks > 0) context.notifyAdded()
  return found
}

const SELECT_ORPHANS =
  createQuery(`SELECT DISTINCT server_id FROM task WHERE state = 'scheduled' AND server_id IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM server WHERE server.id = task.server_id AND ended_at IS NULL)`)

async function endServer(
  context: StoreContext,
  statements: Statements,
  id: string,
  at: number,
  isEvicted: boolean,
): Promise<number> {
  const { engine, db } = context
  await statements.run(
    db
      .updateTable('server')
      .set({ ended_at: at, evicted: isEvicted ? 1 : 0 })
      .where('id', '=', id)
      .where('ended_at', 'is', null)
      .compile(),
  )
  await statements.run(
    db
      .updateTable('client')
      .set({ disconnected_at: at, evicted: isEvicted ? 1 : 0 })
      .where('server_id', '=', id)
      .where('disconnected_at', 'is', null)
      .compile(),
  )
  const count = await unclaimTasks(context, statements, { server: id })
  if (count > 0) await engine.wake(statements)
  return count
}

export async function listServers({ engine, db }: StoreContext): Promise<StoreServerRecord[]> {
  const rows = await engine.all<ServerTable>(
    db.selectFrom('server').selectAll().where('ended_at', 'is', null).orderBy('id').compile(),
  )
  return rows.map((row) => ({
    id: row.id,
    host: row.host,
    startedAt: row.started_at,
    heartbeatAt: row.heartbeat_at,
    endedAt: row.ended_at,
    isEvicted: row.evicted === 1,
    batch: row.batch,
    isOpen: row.is_open === 1,
  }))
}

/** A client that connects again with its id is the same client. */
export async function connectClient(
  { engine, db }: StoreContext,
  {
    id,
    host,
    serverId,
    serverHost,
  }: Pick<StoreClientRecord, 'id' | 'host' | 'serverId' | 'serverHost'>,
): Promise<void> {
  const row = { host, server_id: serverId, server_host: serverHost, connected_at: wallClock() }
  await engine.run(
    db
      .insertInto('client')
      .values({ id, ...row, disconnected_at: null, evicted: 0 })
      .onConflict((conflict) =>
        conflict.column('id').doUpdateSet({ ...row, disconnected_at: null, evicted: 0 }),
      )
      .compile(),
  )
}

/** Notes that a client is gone, and gives its tasks back. Returns how many these were. */
export async function disconnectClient(
  context: StoreContext,
  id: string,
  { isEvicted = false }: { isEvicted?: boolean } = {},
): Promise<number> {
  const { engine, db } = context
  const count = await engine.transaction(async (statements) => {
    await statements.run(
      db
        .updateTable('client')
        .set({ disconnected_at: wallClock(), evicted: isEvicted ? 1 : 0 })
        .where('id', '=', id)
        .where('disconnected_at', 'is', null)
        .compile(),
    )
    // The index of scheduled tasks begins with the server.
    const holders = await statements.all<{ server_id: string }>(
      db.selectFrom('client').select('server_id').where('id', '=', id).compile(),
    )
    let tasks = 0
    for (const { server_id } of holders) {
      tasks += await unclaimTasks(context, statements, { server: server_id, client: id })
    }
    if (tasks > 0) await engine.wake(statements)
    return tasks
  })
  if (count > 0) context.notifyAdded()
  return count
}

/** The connected clients of one server, or of all. */
export async function listClients(
  { engine, db }: StoreContext,
  server?: string,
): Promise<StoreClientRecord[]> {
  let select = db
    .selectFrom('client')
    .selectAll()
    .where('disconnected_at', 'is', null)
    .orderBy('id')
  if (server !== undefined) select = select.where('server_id', '=', server)
  return (await engine.all<ClientTable>(select.compile())).map((row) => ({
    id: row.id,
    host: row.host,
    serverId: row.server_id,
    serverHost: row.server_host,
    connectedAt: row.connected_at,
    disconnectedAt: row.disconnected_at,
    isEvicted: row.evicted === 1,
  }))
}
