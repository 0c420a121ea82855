/** Tasks are claimed, confirmed and completed. A claim carries a fence; what comes with an older one is refused. */

import { describe } from '../../core/describe.ts'
import { ManyhostError } from '../../core/errors.ts'
import { wallClock } from '../../core/time.ts'
import { createQuery, type RowCells, type Statements } from '../../store/engine.ts'
import {
  selectKinds,
  TASK_KINDS,
  type Task,
  type TaskKind,
  type TaskOutcome,
} from '../model/task.ts'
import type { TaskState } from '../model/task-columns.ts'
import { invalidTaskError, toStorableText } from '../model/validate-task.ts'
import { UNCLAIMED_FIELDS } from './add-tasks.ts'
import { countGroups, decideGroupTurn, type TaskCountRow } from './counts.ts'
import { INSERTED_COLUMNS } from './prepared-statements.ts'
import { readTaskRow, type StoredTask, taskToCells } from './row.ts'
import type { StoreContext } from './store-context.ts'
import { newId } from './uuid.ts'

export interface TaskClaimOptions {
  /** At most so many. @default 1 */
  readonly limit?: number
  /** Id of a server that has joined. */
  readonly server: string
  /** How often a task is tried in all: `maxRetries + 1`. @default 1 */
  readonly attempts?: number
  /** Failed tasks before new ones. @default false */
  readonly eager?: boolean
  /** From this group alone. @default the first that has something to do, unless one before it failed for good */
  readonly group?: number
  /** Of this kind alone, wherever they stand among others. @default both kinds, in one order */
  readonly kind?: TaskKind
  /** Of these batches alone, which are one queue; `''` is that of the tasks that have none. @default all */
  readonly batches?: readonly string[]
}

/** What one claim can be named by. */
export interface TaskClaim {
  readonly id: string
  readonly fence: number
}

export async function claimTasks(
  context: StoreContext,
  options: TaskClaimOptions,
): Promise<Task[]> {
  const { limit = 1, server, attempts = 1, eager = false, kind, batches } = options
  if (!(Number.isSafeInteger(limit) && limit >= 1)) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `limit is a whole number from 1 up, got ${describe(limit)}`,
    )
  }
  if (kind !== undefined && !TASK_KINDS.includes(kind)) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `kind is 'shell' or 'request', got ${describe(kind)}`,
    )
  }
  const kinds = selectKinds(kind)
  const { engine, prepared: hot } = context
  return engine.transaction(async (statements) => {
    const [alive] = await statements.all<{ host: string }>(hot.alive(server))
    if (!alive) {
      throw new ManyhostError(
        'MANYHOST_SERVER_EVICTED',
        `the server ${server} has not joined the store, or another one took its tasks over`,
      )
    }
    const counted = await statements.all<TaskCountRow>(hot.counted(batches))
    let { group } = options
    if (group === undefined) {
      const turn = decideGroupTurn(countGroups(counted, attempts))
      if (turn.is !== 'open') return []
      group = turn.group
    }
    const at = wallClock()
    const mark = { server, host: alive.host, at }
    const own = counted.filter((one) => one.group === group && one.n > 0)
    const levels = own.filter((one) => one.state === 'failed' && one.attempt < attempts)
    const news = own.filter((one) => one.state === 'new').map(({ batch }) => batch)
    const failed = (): Promise<Task[]> =>
      claimRetries(context, statements, { kinds, limit: limit - claimed.length }, levels, mark)
    const claimed: Task[] = []
    if (eager) claimed.push(...(await failed()))
    if (claimed.length < limit) {
      const wanted = { kinds, limit: limit - claimed.length }
      claimed.push(
        ...(await claimNew(context, statements, { ...wanted, group, batches: news }, mark)),
      )
    }
    if (!eager && claimed.length < limit) claimed.push(...(await failed()))
    return claimed
  })
}

interface ClaimMark {
  readonly server: string
  readonly host: string
  readonly at: number
}

interface ClaimAmount {
  readonly kinds: readonly TaskKind[]
  readonly limit: number
}

async function claimNew(
  { prepared: hot }: StoreContext,
  statements: Statements,
  { group, batches, kinds, limit }: ClaimAmount & { group: number; batches: Iterable<string> },
  { server, host, at }: ClaimMark,
): Promise<Task[]> {
  const lines: RowCells[][] = []
  for (const batch of new Set(batches)) {
    for (const kind of kinds) {
      lines.push(await statements.cells(hot.fresh(batch, group, kind, limit)))
    }
  }
  const submitted = lines.flat().sort(([a], [b]) => (a as number) - (b as number))
  const found = submitted.slice(0, limit).map(readTaskRow)
  if (found.length === 0) return []
  await statements.run(
    hot.schedule(
      at,
      server,
      host,
      found.map(({ seq }) => seq),
    ),
  )
  return found.map(({ task }) =>
    Object.assign(task, {
      scheduleTime: at,
      serverId: server,
      serverHost: host,
      fence: task.fence + 1,
    }),
  )
}

/** The next attempts of tasks that failed, the longest ago first: rows of their own, with all that was asked for. */
async function claimRetries(
  { prepared: hot }: StoreContext,
  statements: Statements,
  { kinds, limit }: ClaimAmount,
  levels: readonly TaskCountRow[],
  { server, host, at }: ClaimMark,
): Promise<Task[]> {
  const found: StoredTask[] = []
  for (const level of levels) {
    for (const kind of kinds) {
      found.push(...(await statements.cells(hot.failed(level, kind, limit))).map(readTaskRow))
    }
  }
  const ended = ({ task, seq }: StoredTask): [number, number] => [task.completionTime ?? 0, seq]
  found.sort((a, b) => ended(a)[0] - ended(b)[0] || ended(a)[1] - ended(b)[1])
  const chosen = found.slice(0, limit)
  if (chosen.length === 0) return []
  const next = chosen.map(
    ({ task }): Task => ({
      ...task,
      ...UNCLAIMED_FIELDS,
      id: newId(),
      // Without a template it is `args`.
      command: task.template === null ? null : task.command,
      attempt: task.attempt + 1,
      previousId: task.id,
      scheduleTime: at,
      serverId: server,
      serverHost: host,
      fence: 1,
    }),
  )
  await statements.run(hot.insert(next.map((task) => taskToCells(task, INSERTED_COLUMNS))))
  await statements.run(hot.link(chosen.map(({ seq }, i) => [seq, (next[i] as Task).id])))
  return next
}

/** Notes which client holds them; answers the ids of those that are still claimed so. */
export async function confirmClaims(
  context: StoreContext,
  client: string,
  host: string,
  claims: readonly TaskClaim[],
): Promise<string[]> {
  const { engine, prepared: hot } = context
  if (claims.length === 0) return []
  return engine.transaction(async (statements) => {
    const held = await lockClaims(context, statements, claims)
    const valid = claims.filter((one) => classifyClaim(held.get(one.id), one.fence) === 'held')
    if (valid.length > 0) {
      await statements.run(
        hot.confirm(
          client,
          host,
          valid.map(({ id, fence }) => [id, fence]),
        ),
      )
    }
    return valid.map(({ id }) => id)
  })
}

export type OutcomeRefusal =
  /** The claim was taken back; somebody else has, or had, the task. */
  | 'evicted'
  /** This very outcome is kept already. */
  | 'repeated'
  /** There is no such task (any more). */
  | 'unknown'

export interface TaskCompletionResult {
  readonly accepted: readonly string[]
  readonly refused: readonly { readonly id: string; readonly reason: OutcomeRefusal }[]
}

/** @param attempts how often their server tries a task in all: until then, one that failed waits for the next */
export async function completeTasks(
  context: StoreContext,
  outcomes: readonly TaskOutcome[],
  attempts: number | null = null,
): Promise<TaskCompletionResult> {
  if (attempts !== null && !(Number.isSafeInteger(attempts) && attempts >= 1)) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `attempts is a whole number from 1 up, got ${describe(attempts)}`,
    )
  }
  if (outcomes.length === 0) return { accepted: [], refused: [] }
  for (const one of outcomes) {
    const problem = findOutcomeProblem(one)
    if (problem) throw invalidTaskError(problem)
  }
  const accepted = outcomes.map(({ id }) => id)
  if (await completeAll(context, outcomes, attempts)) return { accepted, refused: [] }
  return completeEach(context, outcomes, attempts)
}

/**
 * All of them, or none: nearly always all are held, and then one statement says so by how many rows it changed. Not on
 * PostgreSQL, where rows must be locked in one order by all who write.
 */
async function completeAll(
  { engine, prepared: hot }: StoreContext,
  outcomes: readonly TaskOutcome[],
  attempts: number | null,
): Promise<boolean> {
  if (engine.kind !== 'sqlite') return false
  let changed = outcomes.length
  try {
    await engine.transaction(async (statements) => {
      changed = await statements.run(hot.complete(outcomes.map(createOutcomeToCells(attempts))))
      if (changed < outcomes.length) throw new Error('not all of them are held')
    })
    return true
  } catch (error) {
    if (changed < outcomes.length) return false
    throw error
  }
}

/** Those that are held; why not, for each of the others. */
async function completeEach(
  context: StoreContext,
  outcomes: readonly TaskOutcome[],
  attempts: number | null,
): Promise<TaskCompletionResult> {
  const { engine, prepared: hot } = context
  return engine.transaction(async (statements) => {
    const held = await lockClaims(context, statements, outcomes)
    const accepted: TaskOutcome[] = []
    const refused: { id: string; reason: OutcomeRefusal }[] = []
    for (const one of outcomes) {
      const known = held.get(one.id)
      const reason = classifyClaim(known, one.fence)
      if (reason !== 'held') refused.push({ id: one.id, reason })
      else {
        accepted.push(one)
        // Of two outcomes of one task in one batch, the first counts.
        held.set(one.id, { id: one.id, fence: one.fence, state: 'succeeded' })
      }
    }
    if (accepted.length > 0) {
      await statements.run(hot.complete(accepted.map(createOutcomeToCells(attempts))))
    }
    const evicted = refused.filter(({ reason }) => reason === 'evicted').length
    if (evicted > 0) {
      await statements.run(
        createQuery(`UPDATE meta SET value = value + ${evicted} WHERE name = 'refused'`),
      )
    }
    return { accepted: accepted.map(({ id }) => id), refused }
  })
}

interface ClaimState {
  readonly id: string
  readonly fence: number
  readonly state: TaskState
}

/** How these tasks stand, held so until the transaction ends. */
async function lockClaims(
  { prepared: hot }: StoreContext,
  statements: Statements,
  claims: readonly TaskClaim[],
): Promise<Map<string, ClaimState>> {
  const rows = await statements.all<ClaimState>(hot.standing(claims.map(({ id }) => id)))
  return new Map(rows.map((row) => [row.id, row]))
}

function classifyClaim(task: ClaimState | undefined, fence: number): OutcomeRefusal | 'held' {
  if (!task) return 'unknown'
  const { state } = task
  if (task.fence !== fence || state === 'new' || state === 'cancelled') return 'evicted'
  return state === 'scheduled' ? 'held' : 'repeated'
}

function createOutcomeToCells(attempts: number | null): (one: TaskOutcome) => RowCells {
  return (one) => [
    one.id,
    one.fence,
    one.exitStatus,
    toStorableText(one.command),
    toStorableText(one.clientId),
    toStorableText(one.clientHost),
    roundMs(one.startTime),
    roundMs(one.completionTime),
    one.coresMax ?? null,
    one.memoryMax ?? null,
    toStorableText(one.outpath),
    toStorableText(one.errpath),
    toStorableText(one.csvpath),
    attempts,
    one.captured ? 1 : null,
  ]
}

function findOutcomeProblem({
  id,
  fence,
  exitStatus,
  completionTime,
}: TaskOutcome): string | undefined {
  if (typeof id !== 'string') return `an outcome needs the id of its task, got ${describe(id)}`
  for (const [name, value] of Object.entries({ fence, exitStatus })) {
    if (!Number.isSafeInteger(value))
      return `outcome of ${id}: ${name} must be a whole number, got ${describe(value)}`
  }
  return Number.isFinite(completionTime)
    ? undefined
    : `outcome of ${id}: completionTime must be milliseconds since 1970, got ${describe(completionTime)}`
}

function roundMs(ms: number | null): number | null {
  return ms === null ? null : Math.round(ms)
}
