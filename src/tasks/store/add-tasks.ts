/** Tasks come in. */
import { hostname } from 'node:os'
import { wallClock } from '../../core/time.ts'
import type { RowCells } from '../../store/engine.ts'
import type { NewTask, Task } from '../model/task.ts'
import { findTaskProblem, invalidTaskError } from '../model/validate-task.ts'
import { tagsToJson } from '../text/tags.ts'
import type { StoreContext } from './store-context.ts'
import { newId } from './uuid.ts'

/** Rows, and characters, of one statement: what SQLite does at once, nothing else is done meanwhile. */
const MAX_ROWS = 2_000
const MAX_TEXT = 4 << 20

export interface SubmissionInfo {
  /** Groups what was handed in together. @default a new one at each call */
  readonly submitId?: string
  /** @default the machine's name */
  readonly submitHost?: string
}

/** All of them, or none. Answers their ids, in order. */
export async function addTasks(
  { engine, prepared: hot, notifyAdded: added }: StoreContext,
  tasks: readonly NewTask[],
  { submitId = newId(), submitHost = hostname() }: SubmissionInfo = {},
): Promise<string[]> {
  for (const [index, task] of tasks.entries()) {
    const problem = findTaskProblem(task)
    if (problem) throw invalidTaskError(tasks.length > 1 ? `task ${index}: ${problem}` : problem)
  }
  if (tasks.length === 0) return []
  const submitTime = wallClock()
  const ids: string[] = []
  await engine.transaction(async (statements) => {
    // It may be done again.
    ids.length = 0
    for (const batch of splitIntoStatements(tasks)) {
      const rows: RowCells[] = batch.map((task) => {
        const id = newId()
        ids.push(id)
        return newTaskToCells(task, id, submitId, submitTime, submitHost)
      })
      await statements.run(hot.insert(rows))
    }
    await engine.wake(statements)
  })
  added()
  return ids
}

function* splitIntoStatements(tasks: readonly NewTask[]): Generator<NewTask[]> {
  let batch: NewTask[] = []
  let text = 0
  for (const task of tasks) {
    batch.push(task)
    text += task.args.length + (task.command?.length ?? 0) + (task.request?.body?.length ?? 0)
    if (batch.length < MAX_ROWS && text < MAX_TEXT) continue
    yield batch
    batch = []
    text = 0
  }
  if (batch.length > 0) yield batch
}

/** In the order of GIVEN. */
function newTaskToCells(
  task: NewTask,
  id: string,
  submitId: string,
  submitTime: number,
  submitHost: string,
): RowCells {
  return [
    id,
    task.group ?? 0,
    task.args,
    submitId,
    submitTime,
    submitHost,
    task.cores ?? null,
    task.memory ?? null,
    task.timeout ?? null,
    null,
    null,
    null,
    1,
    0,
    null,
    tagsToJson(task.tag),
    task.request ? JSON.stringify(task.request) : null,
    0,
    task.command ?? null,
    task.batch ?? '',
    task.cwd ?? null,
    task.template ?? null,
    task.shell ?? null,
    task.env ? JSON.stringify(task.env) : null,
  ]
}

/** What a task does not have before it is claimed. */
export const UNCLAIMED_FIELDS = {
  coresMax: null,
  memoryMax: null,
  serverId: null,
  serverHost: null,
  scheduleTime: null,
  clientId: null,
  clientHost: null,
  startTime: null,
  completionTime: null,
  exitStatus: null,
  outpath: null,
  errpath: null,
  csvpath: null,
  retried: false,
  waited: null,
  duration: null,
  previousId: null,
  nextId: null,
  attempts: null,
  captured: false,
} as const satisfies Partial<Task>
