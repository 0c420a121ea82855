/** Tasks are claimed, confirmed and completed. A claim carries a fence; what comes with an older one is refused. */
import { ManyhostError } from '../../core/errors.ts'
import { show } from '../../core/options.ts'
import { wallClock } from '../../core/time.ts'
import { kindsOf, TASK_KINDS, type Task, type TaskKind, type TaskOutcome } from '../task.ts'
import { holdable, invalidTask } from './check.ts'
import { type Counted, groupsOf, turnOf } from './counts.ts'
import { query, type Statements } from './engine.ts'
import type { Ground } from './ground.ts'
import { GIVEN } from './hot.ts'
import { newId } from './identity.ts'
import { NOTHING_YET } from './intake.ts'
import { type Cells, cellsOf, type Kept, kept } from './row.ts'
import type { TaskState } from './tables.ts'

export interface ClaimOptions {
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
export interface Claim {
  readonly id: string
  readonly fence: number
}

export async function claim(ground: Ground, options: ClaimOptions): Promise<Task[]> {
  const { limit = 1, server, attempts = 1, eager = false, kind, batches } = options
  if (!(Number.isSafeInteger(limit) && limit >= 1)) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `limit is a whole number from 1 up, got ${show(limit)}`,
    )
  }
  if (kind !== undefined && !TASK_KINDS.includes(kind)) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `kind is 'shell' or 'request', got ${show(kind)}`,
    )
  }
  const kinds = kindsOf(kind)
  const { engine, hot } = ground
  return engine.transaction(async (statements) => {
    const [alive] = await statements.all<{ host: string }>(hot.alive(server))
    if (!alive) {
      throw new ManyhostError(
        'MANYHOST_SERVER_EVICTED',
        `the server ${server} has not joined the store, or another one took its tasks over`,
      )
    }
    const counted = await statements.all<Counted>(hot.counted(batches))
    let { group } = options
    if (group === undefined) {
      const turn = turnOf(groupsOf(counted, attempts))
      if (turn.is !== 'open') return []
      group = turn.group
    }
    const at = wallClock()
    const mark = { server, host: alive.host, at }
    const own = counted.filter((one) => one.group === group && one.n > 0)
    const levels = own.filter((one) => one.state === 'failed' && one.attempt < attempts)
    const news = own.filter((one) => one.state === 'new').map(({ batch }) => batch)
    const failed = (): Promise<Task[]> =>
      retry(ground, statements, { kinds, limit: limit - claimed.length }, levels, mark)
    const claimed: Task[] = []
    if (eager) claimed.push(...(await failed()))
    if (claimed.length < limit) {
      const wanted = { kinds, limit: limit - claimed.length }
      claimed.push(...(await fresh(ground, statements, { ...wanted, group, batches: news }, mark)))
    }
    if (!eager && claimed.length < limit) claimed.push(...(await failed()))
    return claimed
  })
}

interface Mark {
  readonly server: string
  readonly host: string
  readonly at: number
}

interface Wanted {
  readonly kinds: readonly TaskKind[]
  readonly limit: number
}

async function fresh(
  { hot }: Ground,
  statements: Statements,
  { group, batches, kinds, limit }: Wanted & { group: number; batches: Iterable<string> },
  { server, host, at }: Mark,
): Promise<Task[]> {
  const lines: Cells[][] = []
  for (const batch of new Set(batches)) {
    for (const kind of kinds) {
      lines.push(await statements.cells(hot.fresh(batch, group, kind, limit)))
    }
  }
  const submitted = lines.flat().sort(([a], [b]) => (a as number) - (b as number))
  const found = submitted.slice(0, limit).map(kept)
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
async function retry(
  { hot }: Ground,
  statements: Statements,
  { kinds, limit }: Wanted,
  levels: readonly Counted[],
  { server, host, at }: Mark,
): Promise<Task[]> {
  const found: Kept[] = []
  for (const level of levels) {
    for (const kind of kinds) {
      found.push(...(await statements.cells(hot.failed(level, kind, limit))).map(kept))
    }
  }
  const ended = ({ task, seq }: Kept): [number, number] => [task.completionTime ?? 0, seq]
  found.sort((a, b) => ended(a)[0] - ended(b)[0] || ended(a)[1] - ended(b)[1])
  const chosen = found.slice(0, limit)
  if (chosen.length === 0) return []
  const next = chosen.map(
    ({ task }): Task => ({
      ...task,
      ...NOTHING_YET,
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
  await statements.run(hot.insert(next.map((task) => cellsOf(task, GIVEN))))
  await statements.run(hot.link(chosen.map(({ seq }, i) => [seq, (next[i] as Task).id])))
  return next
}

/** Notes which client holds them; answers the ids of those that are still claimed so. */
export async function confirm(
  ground: Ground,
  client: string,
  host: string,
  claims: readonly Claim[],
): Promise<string[]> {
  const { engine, hot } = ground
  if (claims.length === 0) return []
  return engine.transaction(async (statements) => {
    const held = await standing(ground, statements, claims)
    const valid = claims.filter((one) => verdict(held.get(one.id), one.fence) === 'held')
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

export type Refused =
  /** The claim was taken back; somebody else has, or had, the task. */
  | 'evicted'
  /** This very outcome is kept already. */
  | 'repeated'
  /** There is no such task (any more). */
  | 'unknown'

export interface Completed {
  readonly accepted: readonly string[]
  readonly refused: readonly { readonly id: string; readonly why: Refused }[]
}

/** @param attempts how often their server tries a task in all: until then, one that failed waits for the next */
export async function complete(
  ground: Ground,
  outcomes: readonly TaskOutcome[],
  attempts: number | null = null,
): Promise<Completed> {
  if (attempts !== null && !(Number.isSafeInteger(attempts) && attempts >= 1)) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `attempts is a whole number from 1 up, got ${show(attempts)}`,
    )
  }
  if (outcomes.length === 0) return { accepted: [], refused: [] }
  for (const one of outcomes) {
    const problem = outcomeProblem(one)
    if (problem) throw invalidTask(problem)
  }
  const accepted = outcomes.map(({ id }) => id)
  if (await completeAll(ground, outcomes, attempts)) return { accepted, refused: [] }
  return completeHeld(ground, outcomes, attempts)
}

/**
 * All of them, or none: nearly always all are held, and then one statement says so by how many rows it changed. Not on
 * PostgreSQL, where rows must be locked in one order by all who write.
 */
async function completeAll(
  { engine, hot }: Ground,
  outcomes: readonly TaskOutcome[],
  attempts: number | null,
): Promise<boolean> {
  if (engine.kind !== 'sqlite') return false
  let changed = outcomes.length
  try {
    await engine.transaction(async (statements) => {
      changed = await statements.run(hot.complete(outcomes.map(cellsOfOutcome(attempts))))
      if (changed < outcomes.length) throw new Error('not all of them are held')
    })
    return true
  } catch (error) {
    if (changed < outcomes.length) return false
    throw error
  }
}

/** Those that are held; why not, for each of the others. */
async function completeHeld(
  ground: Ground,
  outcomes: readonly TaskOutcome[],
  attempts: number | null,
): Promise<Completed> {
  const { engine, hot } = ground
  return engine.transaction(async (statements) => {
    const held = await standing(ground, statements, outcomes)
    const accepted: TaskOutcome[] = []
    const refused: { id: string; why: Refused }[] = []
    for (const one of outcomes) {
      const known = held.get(one.id)
      const why = verdict(known, one.fence)
      if (why !== 'held') refused.push({ id: one.id, why })
      else {
        accepted.push(one)
        // Of two outcomes of one task in one batch, the first counts.
        held.set(one.id, { id: one.id, fence: one.fence, state: 'succeeded' })
      }
    }
    if (accepted.length > 0) {
      await statements.run(hot.complete(accepted.map(cellsOfOutcome(attempts))))
    }
    const evicted = refused.filter(({ why }) => why === 'evicted').length
    if (evicted > 0) {
      await statements.run(
        query(`UPDATE meta SET value = value + ${evicted} WHERE name = 'refused'`),
      )
    }
    return { accepted: accepted.map(({ id }) => id), refused }
  })
}

interface Standing {
  readonly id: string
  readonly fence: number
  readonly state: TaskState
}

/** How these tasks stand, held so until the transaction ends. */
async function standing(
  { hot }: Ground,
  statements: Statements,
  claims: readonly Claim[],
): Promise<Map<string, Standing>> {
  const rows = await statements.all<Standing>(hot.standing(claims.map(({ id }) => id)))
  return new Map(rows.map((row) => [row.id, row]))
}

function verdict(task: Standing | undefined, fence: number): Refused | 'held' {
  if (!task) return 'unknown'
  const { state } = task
  if (task.fence !== fence || state === 'new' || state === 'cancelled') return 'evicted'
  return state === 'scheduled' ? 'held' : 'repeated'
}

function cellsOfOutcome(attempts: number | null): (one: TaskOutcome) => Cells {
  return (one) => [
    one.id,
    one.fence,
    one.exitStatus,
    holdable(one.command),
    holdable(one.clientId),
    holdable(one.clientHost),
    whole(one.startTime),
    whole(one.completionTime),
    one.coresMax ?? null,
    one.memoryMax ?? null,
    holdable(one.outpath),
    holdable(one.errpath),
    holdable(one.csvpath),
    attempts,
    one.captured ? 1 : null,
  ]
}

function outcomeProblem({
  id,
  fence,
  exitStatus,
  completionTime,
}: TaskOutcome): string | undefined {
  if (typeof id !== 'string') return `an outcome needs the id of its task, got ${show(id)}`
  for (const [name, value] of Object.entries({ fence, exitStatus })) {
    if (!Number.isSafeInteger(value))
      return `outcome of ${id}: ${name} must be a whole number, got ${show(value)}`
  }
  return Number.isFinite(completionTime)
    ? undefined
    : `outcome of ${id}: completionTime must be milliseconds since 1970, got ${show(completionTime)}`
}

function whole(ms: number | null): number | null {
  return ms === null ? null : Math.round(ms)
}
