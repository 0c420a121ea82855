/** Claims are confirmed and completed. Each claim carries a fence; an outcome with an older fence is refused. */
import { describe } from '../../core/describe.ts'
import { ManyhostError } from '../../core/errors.ts'
import { createQuery, type RowCells, type Statements } from '../../store/engine.ts'
import type { TaskOutcome } from '../model/task.ts'
import type { TaskState } from '../model/task-columns.ts'
import { invalidTaskError, toStorableText } from '../model/validate-task.ts'
import type { StoreContext } from './store-context.ts'

/** Names one claim. */
export interface TaskClaim {
  readonly id: string
  readonly fence: number
}

/** Notes which client holds the claims. Returns the ids of the tasks that are still claimed under that fence. */
export async function confirmClaims(
  context: StoreContext,
  client: string,
  host: string,
  claims: readonly TaskClaim[],
): Promise<string[]> {
  const { engine, prepared } = context
  if (claims.length === 0) return []
  return engine.transaction(async (statements) => {
    const held = await lockClaims(context, statements, claims)
    const valid = claims.filter((one) => classifyClaim(held.get(one.id), one.fence) === 'held')
    if (valid.length > 0) {
      await statements.run(
        prepared.confirm(
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
  /** The claim was taken back. Another server has, or had, the task. */
  | 'evicted'
  /** The outcome of this claim was kept before. */
  | 'repeated'
  /** There is no such task, or it was deleted. */
  | 'unknown'

export interface TaskCompletionResult {
  readonly accepted: readonly string[]
  readonly refused: readonly { readonly id: string; readonly reason: OutcomeRefusal }[]
}

/** @param attempts how often the server tries a task in all: a task that failed fewer times waits for its next attempt */
export async function completeTasks(
  context: StoreContext,
  outcomes: readonly TaskOutcome[],
  attempts: number | null = null,
): Promise<TaskCompletionResult> {
  if (attempts !== null && !(Number.isSafeInteger(attempts) && attempts >= 1)) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `complete: attempts must be a whole number from 1 up, got ${describe(attempts)}`,
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
 * Completes all of them, or none. Nearly always all claims are held, and the number of changed rows of one statement proves
 * it. Not on PostgreSQL, where every writer must lock rows in the same order.
 */
async function completeAll(
  { engine, prepared }: StoreContext,
  outcomes: readonly TaskOutcome[],
  attempts: number | null,
): Promise<boolean> {
  if (engine.kind !== 'sqlite') return false
  let changed = outcomes.length
  try {
    await engine.transaction(async (statements) => {
      changed = await statements.run(
        prepared.complete(outcomes.map(createOutcomeToCells(attempts))),
      )
      // Rolls the transaction back.
      if (changed < outcomes.length) throw new Error('not all claims are held')
    })
    return true
  } catch (error) {
    if (changed < outcomes.length) return false
    throw error
  }
}

/** Completes the outcomes of claims that are held, and says for each of the others why it is refused. */
async function completeEach(
  context: StoreContext,
  outcomes: readonly TaskOutcome[],
  attempts: number | null,
): Promise<TaskCompletionResult> {
  const { engine, prepared } = context
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
        // Of two outcomes of one task, the first counts.
        held.set(one.id, { id: one.id, fence: one.fence, state: 'succeeded' })
      }
    }
    if (accepted.length > 0) {
      await statements.run(prepared.complete(accepted.map(createOutcomeToCells(attempts))))
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

/** Reads the claims as they are, and keeps them so until the transaction ends. */
async function lockClaims(
  { prepared }: StoreContext,
  statements: Statements,
  claims: readonly TaskClaim[],
): Promise<Map<string, ClaimState>> {
  const rows = await statements.all<ClaimState>(prepared.standing(claims.map(({ id }) => id)))
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
  if (typeof id !== 'string') return `an outcome must have the id of its task, got ${describe(id)}`
  for (const [name, value] of Object.entries({ fence, exitStatus })) {
    if (!Number.isSafeInteger(value))
      return `the outcome of ${id}: ${name} must be a whole number, got ${describe(value)}`
  }
  return Number.isFinite(completionTime)
    ? undefined
    : `the outcome of ${id}: completionTime must be milliseconds since 1970, got ${describe(completionTime)}`
}

function roundMs(ms: number | null): number | null {
  return ms === null ? null : Math.round(ms)
}
