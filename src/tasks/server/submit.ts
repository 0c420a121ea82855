/** Hands tasks in: to a store, or over HTTP to a task server. */
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
import { openTaskApiClient, readProblemDetail, type TaskApiRequest } from './task-api-client.ts'
import { TaskFeeder } from './task-feeder.ts'

export interface Submitted {
  readonly count: number
  /** The `submit_id` of all tasks of this submission. */
  readonly submitId: string
  /** Of the first hundred tasks. */
  readonly ids: readonly string[]
}

const MAX_REPORTED_IDS = 100
/** For the answer of a task server, in ms. */
const REQUEST_TIMEOUT_MS = 30_000

/**
 * Hands in the tasks of a source, in bundles as they come. Resolves when all of them are stored; after `signal`, when all are
 * stored that had been read.
 * @throws ManyhostError MANYHOST_INVALID_TASK, MANYHOST_INVALID_OPTION; what the source throws. All tasks before that are
 * handed in.
 */
export async function submitFrom(
  source: TaskSource,
  options: SubmitOptions = {},
): Promise<Submitted> {
  const settings = parseSubmitOptions(options)
  const submitId = settings.submitId ?? randomUUID()
  const { signal } = settings
  // The source may be silent for long: it is cut off. A line that has come in part is dropped.
  if (signal && source instanceof Readable) addAbortSignal(signal, source)
  const { add, close } = await openReceiver(settings, submitId)
  const ids: string[] = []
  let count = 0
  const feeder = new TaskFeeder({
    tasks: readTasks(ignoreStreamErrors(source), {
      ...sourceOptions(settings),
      make: createTaskMaker(settings),
    }),
    waitForCapacity: async () => Number.POSITIVE_INFINITY,
    add: async (tasks) => {
      const added = await add(tasks)
      count += tasks.length
      if (ids.length < MAX_REPORTED_IDS) ids.push(...added.slice(0, MAX_REPORTED_IDS - ids.length))
    },
    bundleSize: settings.bundleSize,
    bundleWaitMs: settings.bundleWait,
  })
  const stop = (): void => feeder.stop()
  signal?.addEventListener('abort', stop)
  if (signal?.aborted) stop()
  try {
    await feeder.done
  } catch (error) {
    // The signal cut the source off, which is no error: what it gave before is handed in.
    if (!signal?.aborted || (error as Error).name !== 'AbortError') throw error
  } finally {
    signal?.removeEventListener('abort', stop)
    await close()
  }
  return { count, submitId, ids }
}

/** Hands in the lines of a file; see `submitFrom`. */
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

/** Completes tasks before they are handed in: they run in this folder, unless the server is on another machine. */
function createTaskMaker({ server, template, cwd, shell, env }: SubmissionSettings) {
  const isRemote = server !== undefined && !isLoopback(new URL(server).hostname)
  const folder = cwd ?? (isRemote ? undefined : process.cwd())
  const accept = createTaskAcceptor({ cwd: folder && resolve(folder), shell, env })
  const expand = template === '{}' ? undefined : createExpander(template)
  if (!expand && server === undefined) return accept
  return async (task: NewTask): Promise<NewTask> => {
    const made = await accept(expand ? await expand(task) : task)
    // In a line of JSON a wrong `cwd`, `shell` or `env` would be read as a tag.
    const problem = server === undefined ? undefined : findTaskProblem(made)
    if (problem !== undefined) throw new Error(problem)
    return made
  }
}

/** Expands the template of a submission here. It may not need anything of the machine that runs the task. */
function createExpander(template: string): (task: NewTask) => Promise<NewTask> {
  const compiled = compileTemplate(template)
  const shell = (): never => {
    throw new Error('{% %} is run where the task runs: give the template to the cluster')
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
        // The same key at each try: tasks that were stored by the first try are not stored again.
        headers: {
          'content-type': 'application/x-ndjson',
          'idempotency-key': key,
        },
        headersTimeout: REQUEST_TIMEOUT_MS,
        bodyTimeout: REQUEST_TIMEOUT_MS,
      })
      const { statusCode: status } = answer
      if (status === 200) return ((await answer.body.json()) as { ids?: string[] }).ids ?? []
      const detail = (await readProblemDetail(answer)) ?? 'no reason given'
      throw new ManyhostError(
        status === 401 ? 'MANYHOST_UNAUTHORIZED' : 'MANYHOST_BAD_STATUS',
        `${origin} answered ${status}: ${detail}`,
        { status, retryable: false },
      )
    } catch (error) {
      const isReset = (error as { code?: string }).code === 'UND_ERR_SOCKET'
      if (!isReset || tries > 0) throw error
    }
  }
}

/** As a line of JSON, where times are in seconds. The server expands the template, and has batches of its own. */
function taskToLine(task: NewTask): Record<string, unknown> {
  const { timeout, tag, template, command: _, batch: __, ...fields } = task
  return {
    ...fields,
    ...(template !== undefined && withTemplate(task.args, template)),
    ...(timeout !== undefined && { timeout: timeout / 1_000 }),
    ...(tag && { tag: toExactTags(tag) }),
  }
}
