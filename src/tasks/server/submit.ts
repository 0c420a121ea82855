/** Hands tasks in: to a store, or to a server that listens. */
import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { resolve } from 'node:path'
import { addAbortSignal, Readable } from 'node:stream'
import { ManyhostError } from '../../core/errors.ts'
import { isLoopback } from '../../core/options.ts'
import { createTaskAcceptor } from '../model/accept-task.ts'
import type { NewTask } from '../model/task.ts'
import { findTaskProblem } from '../model/validate-task.ts'
import { defaultStorePath, openStore } from '../store/open.ts'
import { toJson } from '../text/exact-json.ts'
import { withTemplate } from '../text/json-and-request-lines.ts'
import { ignoreStreamErrors, readTasks, type TaskSource } from '../text/source.ts'
import { toExactTags } from '../text/tags.ts'
import { compileTemplate } from '../text/template.ts'
import { parseSubmitOptions, type SubmitOptions, sourceOptions } from './options.ts'
import { openTaskApiClient, type TaskApiRequest } from './task-api-client.ts'
import { TaskFeeder } from './task-feeder.ts'

export interface Submitted {
  readonly count: number
  /** Marks all tasks of this submission: `submit_id`. */
  readonly submitId: string
  /** The first hundred. */
  readonly ids: readonly string[]
}

const MAX_REPORTED_IDS = 100
const REQUEST_TIMEOUT = 30_000

/**
 * Hands in what a source gives, in bundles as it comes. Resolves when all of it is kept, or the signal came and all that
 * was read is.
 * @throws ManyhostError MANYHOST_INVALID_TASK, MANYHOST_INVALID_OPTION; what the source throws. What came before is handed in.
 */
export async function submitFrom(
  source: TaskSource,
  options: SubmitOptions = {},
): Promise<Submitted> {
  const settings = parseSubmitOptions(options)
  const submitId = settings.submitId ?? randomUUID()
  const { signal } = settings
  // It may be silent for long. A line that has come in part is none.
  if (signal && source instanceof Readable) addAbortSignal(signal, source)
  const { add, close } = await openReceiver(settings, submitId)
  const ids: string[] = []
  let count = 0
  const feed = new TaskFeeder({
    tasks: readTasks(ignoreStreamErrors(source), {
      ...sourceOptions(settings),
      make: createTaskMaker(settings),
    }),
    waitForCapacity: async () => Number.POSITIVE_INFINITY,
    add: async (tasks) => {
      const given = await add(tasks)
      count += tasks.length
      if (ids.length < MAX_REPORTED_IDS) ids.push(...given.slice(0, MAX_REPORTED_IDS - ids.length))
    },
    bundleSize: settings.bundleSize,
    bundleWaitMs: settings.bundleWait,
  })
  const stop = (): void => feed.stop()
  signal?.addEventListener('abort', stop)
  if (signal?.aborted) stop()
  try {
    await feed.done
  } catch (error) {
    // The signal cut the source off: what that gave is handed in.
    if (!signal?.aborted || (error as Error).name !== 'AbortError') throw error
  } finally {
    signal?.removeEventListener('abort', stop)
    await close()
  }
  return { count, submitId, ids }
}

/** The lines of a file; see `submitFrom`. */
export function submitFile(path: string, options: SubmitOptions = {}): Promise<Submitted> {
  return submitFrom(createReadStream(path), options)
}

interface TaskReceiver {
  add(tasks: readonly NewTask[]): Promise<readonly string[]>
  close(): Promise<void>
}

type SubmissionSettings = ReturnType<typeof parseSubmitOptions>

async function openReceiver(settings: SubmissionSettings, submitId: string): Promise<TaskReceiver> {
  const { server, store, token, caFile, insecure } = settings
  if (server !== undefined) {
    const { origin, ask, close } = openTaskApiClient({ server, token, caFile, insecure })
    return { add: (tasks) => postTasks(origin, ask, tasks, submitId), close }
  }
  if (typeof store === 'object') {
    return { add: (tasks) => store.add(tasks, { submitId }), close: async () => {} }
  }
  const opened = await openStore(store ?? defaultStorePath())
  return { add: (tasks) => opened.add(tasks, { submitId }), close: () => opened.close() }
}

/** What is handed in runs where it was handed in: in this folder, unless the server is on another machine. */
function createTaskMaker({ server, template, cwd, shell, env }: SubmissionSettings) {
  const isFar = server !== undefined && !isLoopback(new URL(server).hostname)
  const folder = cwd ?? (isFar ? undefined : process.cwd())
  const accept = createTaskAcceptor({ cwd: folder && resolve(folder), shell, env })
  const expand = template === '{}' ? undefined : createExpander(template)
  if (!expand && server === undefined) return accept
  return async (task: NewTask): Promise<NewTask> => {
    const made = await accept(expand ? await expand(task) : task)
    // The server would take for a tag what is no folder, say.
    const problem = server === undefined ? undefined : findTaskProblem(made)
    if (problem !== undefined) throw new Error(problem)
    return made
  }
}

/** The template of a submission becomes part of the task, where it needs nothing of the machine that runs it. */
function createExpander(template: string): (task: NewTask) => Promise<NewTask> {
  const compiled = compileTemplate(template)
  const shell = (): never => {
    throw new Error('it is run where the task runs: give the template to the cluster')
  }
  return async (task) => {
    const args = await compiled.expand({ args: task.args, tag: task.tag ?? {}, shell })
    return { ...task, args }
  }
}

async function postTasks(
  origin: string,
  ask: TaskApiRequest,
  tasks: readonly NewTask[],
  submitId: string,
): Promise<readonly string[]> {
  const key = randomUUID()
  const body = tasks.map((task) => `${toJson(taskToLine(task))}\n`).join('')
  for (let tries = 0; ; tries++) {
    try {
      const answer = await ask(`tasks?submit_id=${submitId}`, {
        method: 'POST',
        body,
        // The same at each try: what came through the first time is not taken in twice.
        headers: {
          'content-type': 'application/x-ndjson',
          'idempotency-key': key,
        },
        headersTimeout: REQUEST_TIMEOUT,
        bodyTimeout: REQUEST_TIMEOUT,
      })
      const said = (await answer.body.json()) as { ids?: string[]; error?: string }
      if (answer.statusCode === 200) return said.ids ?? []
      throw new ManyhostError(
        answer.statusCode === 401 ? 'MANYHOST_UNAUTHORIZED' : 'MANYHOST_BAD_STATUS',
        `${origin} answered ${answer.statusCode}: ${said.error ?? ''}`,
        { status: answer.statusCode, retryable: false },
      )
    } catch (error) {
      const isReset = (error as { code?: string }).code === 'UND_ERR_SOCKET'
      if (!isReset || tries > 0) throw error
    }
  }
}

/** As a line of JSON: spans in seconds there. The server fills the template in, and has its own batches. */
function taskToLine(given: NewTask): Record<string, unknown> {
  const { timeout, tag, template, command: _, batch: __, ...task } = given
  return {
    ...task,
    ...(template !== undefined && withTemplate(task.args, template)),
    ...(timeout !== undefined && { timeout: timeout / 1_000 }),
    ...(tag && { tag: toExactTags(tag) }),
  }
}
