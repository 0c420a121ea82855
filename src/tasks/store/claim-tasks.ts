/** Claims give tasks to a server: new tasks, and the next attempts of failed ones. */
import { describe } from '../../core/describe.ts'
import { ManyhostError } from '../../core/errors.ts'
import { wallClock } from '../../core/time.ts'
import type { RowCells, Statements } from '../../store/engine.ts'
import { selectKinds, TASK_KINDS, type Task, type TaskKind } from '../model/task.ts'
import { UNCLAIMED_FIELDS } from './add-tasks.ts'
import { countGroups, decideGroupTurn, type TaskCountRow } from './counts.ts'
import { INSERTED_COLUMNS } from './prepared-statements.ts'
import { readTaskRow, type StoredTask, taskToCells } from './row.ts'
import type { StoreContext } from './store-context.ts'
import { newId } from './uuid.ts'

export interface TaskClaimOptions {
  /** Tasks at most, from 1 up. @default 1 */
  readonly limit?: number
  /** Id of a registered server. */
  readonly server: string
  /** How often a task is tried in all: `maxRetries + 1`. @default 1 */
  readonly attempts?: number
  /** Claims failed tasks before new ones. @default false */
  readonly eager?: boolean
  /** Claims from this group only. @default the first group with something to do, unless an earlier one failed for good */
  readonly group?: number
  /** Claims tasks of this kind only, past tasks of the other kind. @default both kinds, in one order */
  readonly kind?: TaskKind
  /** Claims from these batches only, as from one queue; `''` stands for the tasks without a batch. @default all */
  readonly batches?: readonly string[]
}

export async function claimTasks(
  context: StoreContext,
  options: TaskClaimOptions,
): Promise<Task[]> {
  const { limit = 1, server, attempts = 1, eager = false, kind, batches } = options
  if (!(Number.isSafeInteger(limit) && limit >= 1)) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `claim: limit must be a whole number from 1 up, got ${describe(limit)}`,
    )
  }
  if (kind !== undefined && !TASK_KINDS.includes(kind)) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `claim: kind must be 'shell' or 'request', got ${describe(kind)}`,
    )
  }
  const kinds = selectKinds(kind)
  const { engine, prepared } = context
  return engine.transaction(async (statements) => {
    const [registered] = await statements.all<{ host: string }>(prepared.alive(server))
    if (!registered) {
      throw new ManyhostError(
        'MANYHOST_SERVER_EVICTED',
        `the server ${server} is not registered in the store, or was found dead: its tasks went back to the queue`,
      )
    }
    const counted = await statements.all<TaskCountRow>(prepared.counted(batches))
    let { group } = options
    if (group === undefined) {
      const turn = decideGroupTurn(countGroups(counted, attempts))
      if (turn.is !== 'open') return []
      group = turn.group
    }
    const at = wallClock()
    const mark = { server, host: registered.host, at }
    const ofGroup = counted.filter((one) => one.group === group && one.n > 0)
    const retryable = ofGroup.filter((one) => one.state === 'failed' && one.attempt < attempts)
    const withNew = ofGroup.filter((one) => one.state === 'new').map(({ batch }) => batch)
    const retry = (): Promise<Task[]> =>
      claimRetries(context, statements, { kinds, limit: limit - claimed.length }, retryable, mark)
    const claimed: Task[] = []
    if (eager) claimed.push(...(await retry()))
    if (claimed.length < limit) {
      const wanted = { kinds, limit: limit - claimed.length }
      claimed.push(
        ...(await claimNew(context, statements, { ...wanted, group, batches: withNew }, mark)),
      )
    }
    if (!eager && claimed.length < limit) claimed.push(...(await retry()))
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
  { prepared }: StoreContext,
  statements: Statements,
  { group, batches, kinds, limit }: ClaimAmount & { group: number; batches: Iterable<string> },
  { server, host, at }: ClaimMark,
): Promise<Task[]> {
  const queues: RowCells[][] = []
  for (const batch of new Set(batches)) {
    for (const kind of kinds) {
      queues.push(await statements.cells(prepared.fresh(batch, group, kind, limit)))
    }
  }
  const submitted = queues.flat().sort(([a], [b]) => (a as number) - (b as number))
  const found = submitted.slice(0, limit).map(readTaskRow)
  if (found.length === 0) return []
  await statements.run(
    prepared.schedule(
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

/** Claims the next attempts of failed tasks, the longest ago first. Each attempt is a row of its own, with all that was asked for. */
async function claimRetries(
  { prepared }: StoreContext,
  statements: Statements,
  { kinds, limit }: ClaimAmount,
  counts: readonly TaskCountRow[],
  { server, host, at }: ClaimMark,
): Promise<Task[]> {
  const found: StoredTask[] = []
  for (const count of counts) {
    for (const kind of kinds) {
      found.push(...(await statements.cells(prepared.failed(count, kind, limit))).map(readTaskRow))
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
      // Without a template the command is `args`.
      command: task.template === null ? null : task.command,
      attempt: task.attempt + 1,
      previousId: task.id,
      scheduleTime: at,
      serverId: server,
      serverHost: host,
      fence: 1,
    }),
  )
  await statements.run(prepared.insert(next.map((task) => taskToCells(task, INSERTED_COLUMNS))))
  await statements.run(prepared.link(chosen.map(({ seq }, i) => [seq, (next[i] as Task).id])))
  return next
}
