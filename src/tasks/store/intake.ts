/** Tasks come in. */
import { hostname } from 'node:os'
import { wallClock } from '../../core/time.ts'
import { tagsToJson } from '../tags.ts'
import type { NewTask, Task } from '../task.ts'
import { invalidTask, taskProblem } from './check.ts'
import type { Ground } from './ground.ts'
import { newId } from './identity.ts'
import type { Cells } from './row.ts'

/** Rows, and characters, of one statement: what SQLite does at once, nothing else is done meanwhile. */
const MOST_ROWS = 2_000
const MOST_TEXT = 4 << 20

export interface Submitter {
  /** Groups what was handed in together. @default a new one at each call */
  readonly submitId?: string
  /** @default the machine's name */
  readonly submitHost?: string
}

/** All of them, or none. Answers their ids, in order. */
export async function add(
  { engine, hot, added }: Ground,
  tasks: readonly NewTask[],
  { submitId = newId(), submitHost = hostname() }: Submitter,
): Promise<string[]> {
  for (const [index, task] of tasks.entries()) {
    const problem = taskProblem(task)
    if (problem) throw invalidTask(tasks.length > 1 ? `task ${index}: ${problem}` : problem)
  }
  if (tasks.length === 0) return []
  const submitTime = wallClock()
  const ids: string[] = []
  await engine.transaction(async (statements) => {
    // It may be done again.
    ids.length = 0
    for (const batch of batches(tasks)) {
      const rows: Cells[] = batch.map((task) => {
        const id = newId()
        ids.push(id)
        return fresh(task, id, submitId, submitTime, submitHost)
      })
      await statements.run(hot.insert(rows))
    }
    await engine.wake(statements)
  })
  added()
  return ids
}

function* batches(tasks: readonly NewTask[]): Generator<NewTask[]> {
  let batch: NewTask[] = []
  let text = 0
  for (const task of tasks) {
    batch.push(task)
    text += task.args.length + (task.command?.length ?? 0) + (task.request?.body?.length ?? 0)
    if (batch.length < MOST_ROWS && text < MOST_TEXT) continue
    yield batch
    batch = []
    text = 0
  }
  if (batch.length > 0) yield batch
}

/** In the order of GIVEN. */
function fresh(
  task: NewTask,
  id: string,
  submitId: string,
  submitTime: number,
  submitHost: string,
): Cells {
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
export const NOTHING_YET = {
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
