/** The routes of a task server's HTTP API, each with its handler. docs/tasks.md has their table. */
import { createReadStream } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { describe } from '../../core/describe.ts'
import { ManyhostError } from '../../core/errors.ts'
import { createProblem, sendProblem } from '../../core/http/problem.ts'
import type { HttpRoute, RouteCall } from '../../core/http/route-handler.ts'
import { now, sleep } from '../../core/time.ts'
import { isFailure } from '../model/exit-status.ts'
import type { NewTask, Task } from '../model/task.ts'
import { taskToJson } from '../store/row.ts'
import { toJson } from '../text/exact-json.ts'
import { readTasks } from '../text/source.ts'
import type { TaskServer } from './task-server.ts'

/** Most tasks and bytes of one POST: they are added together or not at all. */
const MAX_TASKS = 10_000
const MAX_BODY_BYTES = 64 << 20

/** Longest wait of one request for an outcome, in ms. */
const MAX_WAIT_MS = 60_000
const POLL_INTERVAL_MS = 20

/** Submissions whose answers are kept for a caller that sends the same key again. */
const MAX_IDEMPOTENCY_KEYS = 1_000
const MAX_KEY_LENGTH = 200

export function createTaskApiRoutes(server: TaskServer): HttpRoute[] {
  const api = new TaskApi(server)
  return [
    { method: 'GET', path: '/health', isPublic: true, handle: (call) => api.getHealth(call) },
    { method: 'POST', path: '/tasks', handle: (call) => api.addTasks(call) },
    { method: 'GET', path: '/progress', handle: (call) => api.getProgress(call) },
    { method: 'GET', path: '/tasks/{id}', handle: (call) => api.getTask(call) },
    { method: 'DELETE', path: '/tasks/{id}', handle: (call) => api.cancelTask(call) },
    { method: 'GET', path: '/tasks/{id}/{stream}', handle: (call) => api.getOutput(call) },
  ]
}

class TaskApi {
  readonly #server: TaskServer
  /** Ids of the tasks of a submission, by its idempotency key. */
  readonly #submissions = new Map<string, Promise<string[]>>()

  constructor(server: TaskServer) {
    this.#server = server
  }

  getHealth({ response }: RouteCall): void {
    const { state } = this.#server
    sendJson(response, state === 'working' ? 200 : 503, { state })
  }

  async getProgress({ response }: RouteCall): Promise<void> {
    const { store, maxAttempts, batches } = this.#server
    sendJson(response, 200, await store.progress(maxAttempts, batches))
  }

  async addTasks({ request, response, query }: RouteCall): Promise<void> {
    if (this.#server.state !== 'working') {
      const detail = `the task server takes no new tasks: it is ${this.#server.state}`
      return sendProblem(response, createProblem(503, detail))
    }
    const tasks: NewTask[] = []
    const reading = { kind: 'json', make: this.#server.accept } as const
    for await (const task of readTasks(limitBody(request), reading)) {
      if (tasks.push(task) > MAX_TASKS) {
        const detail = `more than ${MAX_TASKS} tasks in one POST: send them in several`
        return sendProblem(response, createProblem(413, detail))
      }
    }
    const key = String(request.headers['idempotency-key'] ?? '')
    const submitId = query.get('submit_id')
    const ids = this.#submissions.get(key) ?? this.#store(tasks, submitId, key)
    sendJson(response, 200, { ids: await ids })
  }

  /** @param key empty: none */
  #store(tasks: readonly NewTask[], submitId: string | null, key: string): Promise<string[]> {
    const ids = this.#server.store.add(tasks, submitId === null ? {} : { submitId })
    if (key === '' || key.length > MAX_KEY_LENGTH) return ids
    const submissions = this.#submissions
    submissions.set(key, ids)
    ids.catch(() => submissions.delete(key))
    if (submissions.size > MAX_IDEMPOTENCY_KEYS) {
      const [oldest] = submissions.keys()
      submissions.delete(oldest as string)
    }
    return ids
  }

  /** With `?wait=ms` it answers when the task is over, or that time has passed. */
  async getTask({ response, params, query }: RouteCall): Promise<void> {
    const waitMs = Math.min(MAX_WAIT_MS, Math.max(0, Number(query.get('wait') ?? 0) || 0))
    const deadline = now() + waitMs
    let task = await this.#findLastAttempt(requireTaskId(params))
    while (!this.#isOver(task) && now() < deadline && !response.destroyed) {
      await sleep(POLL_INTERVAL_MS)
      task = await this.#findLastAttempt(task.id)
    }
    sendJson(response, 200, { ...taskToJson(task), is_over: this.#isOver(task) })
  }

  /** Not over: it has no outcome, or it failed and its next attempt has not begun. */
  #isOver({ completionTime, exitStatus, attempt, nextId }: Task): boolean {
    if (completionTime === null || nextId !== null) return false
    const hasAttemptsLeft = attempt < this.#server.maxAttempts
    return !(exitStatus !== null && isFailure(exitStatus) && hasAttemptsLeft)
  }

  async #findLastAttempt(id: string): Promise<Task> {
    const { store } = this.#server
    let task = await store.get(id)
    while (task.nextId !== null) task = await store.get(task.nextId)
    return task
  }

  async cancelTask({ response, params }: RouteCall): Promise<void> {
    const value = requireTaskId(params)
    const cancelled = await this.#server.cancel({
      where: [{ field: 'id', operator: '==', value }],
    })
    if (cancelled > 0) return sendJson(response, 200, { cancelled })
    const detail = `there is no task ${value} that can be cancelled`
    sendProblem(response, createProblem(404, detail, { cancelled }))
  }

  async getOutput({ response, params }: RouteCall): Promise<void> {
    const id = requireTaskId(params)
    const stream = params.stream as string
    const task = await this.#server.store.get(id)
    const paths = new Map([
      ['stdout', task.outpath],
      ['stderr', task.errpath],
      ['csv', task.csvpath],
    ])
    const path = paths.get(stream)
    if (path === undefined) {
      const detail = `a task has no output ${stream}: use stdout, stderr or csv`
      return sendProblem(response, createProblem(404, detail))
    }
    if (path === null) {
      // Captured, and the task wrote nothing.
      if (task.captured && stream !== 'csv') return void response.end()
      const detail = `the ${stream} of task ${id} was not captured`
      return sendProblem(response, createProblem(404, detail))
    }
    response.setHeader('content-type', 'application/octet-stream')
    await pipeline(createReadStream(path), response)
  }
}

/**
 * Only what can be an id reaches the store: a path may have any bytes, and PostgreSQL refuses some.
 * @throws ManyhostError MANYHOST_UNKNOWN_TASK
 */
function requireTaskId({ id = '' }: RouteCall['params']): string {
  if (/^[\w-]{1,100}$/.test(id)) return id
  throw new ManyhostError('MANYHOST_UNKNOWN_TASK', `no task has the id ${describe(id)}`)
}

async function* limitBody(request: IncomingMessage): AsyncGenerator<Uint8Array> {
  let size = 0
  for await (const chunk of request as AsyncIterable<Uint8Array>) {
    size += chunk.length
    if (size > MAX_BODY_BYTES) {
      throw new ManyhostError(
        'MANYHOST_BODY_TOO_LARGE',
        `more than ${MAX_BODY_BYTES} bytes of tasks in one POST: send them in several`,
      )
    }
    yield chunk
  }
}

/** Whole numbers beyond 2^53 are written exactly. */
function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(toJson(body))
}
