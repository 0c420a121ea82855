/** How far the work is, read from the kept counts and the last outcomes. */
import { createQuery } from '../../store/engine.ts'
import { computePressure } from '../model/scaling.ts'
import {
  computeProgress,
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
import { readStoreClock, type StoreContext } from './store-context.ts'

/** The rate is taken from at most this many outcomes, of at most this many milliseconds. */
const MAX_SAMPLES = 1_000
const SAMPLE_PERIOD = 60_000

function readCounts(
  { engine, prepared }: StoreContext,
  batches?: readonly string[],
): Promise<TaskCountRow[]> {
  return engine.all<TaskCountRow>(prepared.counted(batches))
}

export async function readStateCounts(
  context: StoreContext,
  batches?: readonly string[],
): Promise<TaskStateCounts> {
  return sumCounts(await readCounts(context, batches))
}

export async function readGroups(
  context: StoreContext,
  attempts = 1,
  batches?: readonly string[],
): Promise<TaskGroup[]> {
  return countGroups(await readCounts(context, batches), attempts)
}

export async function readGroupTurn(
  context: StoreContext,
  attempts = 1,
  batches?: readonly string[],
): Promise<TaskGroupTurn> {
  return decideGroupTurn(await readGroups(context, attempts, batches))
}

export async function countRemaining(context: StoreContext, attempts = 1): Promise<number> {
  return (await readGroups(context, attempts)).reduce((sum, { remaining }) => sum + remaining, 0)
}

export async function readProgress(
  context: StoreContext,
  attempts = 1,
  batches?: readonly string[],
): Promise<StoreProgress> {
  const { engine, db } = context
  const at = await readStoreClock(context)
  let sampled = db
    .selectFrom('task')
    .select(['completion_time', 'duration'])
    .where('completion_time', '>', at - SAMPLE_PERIOD)
    .orderBy('completion_time', 'desc')
    .limit(MAX_SAMPLES)
  if (batches) sampled = sampled.where('batch', 'in', batches)
  const samples = await engine.all<OutcomeSample>(sampled.compile())
  const counted = await readCounts(context, batches)
  return computeProgress(countGroups(counted, attempts), sumCounts(counted), samples, at)
}

export async function readPressure(
  context: StoreContext,
  factor = 1,
  attempts = 1,
): Promise<number | null> {
  return computePressure(await readProgress(context, attempts), factor)
}

export async function countRefusedOutcomes({ engine }: StoreContext): Promise<number> {
  const [row] = await engine.all<{ value: number }>(
    createQuery("SELECT value FROM meta WHERE name = 'refused'"),
  )
  return row?.value ?? 0
}
