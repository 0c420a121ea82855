/** Adds tasks to a store. */
import { hostname } from 'node:os'
import { wallClock } from '../../core/time.ts'
import type { RowCells } from '../../store/engine.ts'
import type { NewTask, Task } from '../model/task.ts'
import { findTaskProblem, invalidTaskError } from '../model/validate-task.ts'
import { tagsToJson } from '../text/tags.ts'
import type { StoreContext } from './store-context.ts'
import { newId } from './uuid.ts'

/** Rows and characters of one statement at most: SQLite does nothing else while a statement runs. */
const MAX_ROWS = 2_000
const MAX_TEXT = 4 << 20

export interface SubmissionInfo {
  /** An id for all tasks that were added together. @default a new one for each call */
  readonly submitId?: string
  /** @default the machine's name */
  readonly submitHost?: string
}

/** Adds all of them, or none. Returns their ids, in order. */
export async function addTasks(
  { engine, prepared, notifyAdded }: StoreContext,
  tasks: readonly NewTask[],
  { submitId = newId(), submitHost = hostname() }: SubmissionInfo = {},
): Promise<string[]> {
  for (const [index, task] of tasks.entries()) {
    const problem = findTaskProblem(task)
    if (problem) throw invalidTaskError(tasks.length > 1 ? `tasks[${index}]: ${problem}` : problem)
  }
  if (tasks.length === 0) return []
  const submitTime = wallClock()
  const ids: string[] = []
  await engine.transaction(async (statements) => {
    // A transaction that lost a conflict runs again.
    ids.length = 0
    for (const batch of splitIntoStatements(tasks)) {
      const rows: RowCells[] = batch.map((task) => {
        const id = newId()
        ids.push(id)
        return newTaskToCells(task, id, submitId, submitTime, submitHost)
      })
      await statements.run(prepared.insert(rows))
    }
    await engine.wake(statements)
  })
  notifyAdded()
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

/** The cells of a new task, in the order of INSERTED_COLUMNS. */
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

/** Fields that have no value before a task is claimed. */
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
