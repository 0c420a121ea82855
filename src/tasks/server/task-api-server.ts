/** A task server's HTTP side: tasks are handed in, looked at, waited for and cancelled, and their outputs fetched. */
import { randomBytes } from 'node:crypto'
import { createReadStream, readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { createSecureContext } from 'node:tls'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { destroyResponse, guardConnections, serverOptions } from '../../core/http/http-server.ts'
import { isSameSecret, parseBearerToken } from '../../core/http-caller.ts'
import { isLoopback } from '../../core/options.ts'
import { now, sleep } from '../../core/time.ts'
import type { NewTask, Task } from '../model/task.ts'
import { taskToJson } from '../store/row.ts'
import { toJson } from '../text/exact-json.ts'
import { readTasks } from '../text/source.ts'
import type { TaskServer } from './task-server.ts'

/** Tasks, and bytes, that one POST may hand in: they go in together or not at all. */
const MAX_TASKS = 10_000
const MAX_BODY_BYTES = 64 << 20

/** Longest wait of one request for an outcome, in ms. */
const MAX_WAIT_MS = 60_000
const POLL_INTERVAL_MS = 20

/** Submissions whose answer is kept for who asks again with the same key. */
const MAX_IDEMPOTENCY_KEYS = 1_000

export interface TaskApiOptions {
  readonly host?: string
  /** 0: any that is free. */
  readonly port?: number
  /** At least 16 characters; made where it is not given. */
  readonly token?: string
  /** Whoever reaches the port may run commands. */
  readonly anyone?: boolean
  /** PEM files of a certificate and its private key: it speaks TLS then. */
  readonly certFile?: string
  readonly certKeyFile?: string
  /** Whether to listen without TLS on more than this machine: then anybody between can read the token. */
  readonly insecure?: boolean
}

export interface TaskApiServer {
  readonly url: string
  readonly token: string | undefined
  close(): Promise<void>
}

/** A POST may bring 64 MiB. Whoever waits for a task holds a connection. */
const HTTP_LIMITS = { requestTimeout: 120_000, connections: 10_000 }

/** @throws Error EADDRINUSE and others, as the system says; ManyhostError MANYHOST_INVALID_OPTION */
export async function startTaskApiServer(
  server: TaskServer,
  options: TaskApiOptions,
): Promise<TaskApiServer> {
  const { host = '127.0.0.1', port = 0, token, anyone = false, insecure = false } = options
  const tls = readTlsFiles(options)
  if (!tls && !insecure && !isLoopback(host)) {
    throw invalidOption(
      `listen: ${host} is not of this machine alone: give certFile and certKeyFile, or say insecure: true`,
    )
  }
  const secret = anyone ? undefined : (token ?? randomBytes(24).toString('hex'))
  const answers = new Map<string, Promise<string[]>>()
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    handle(request, response).catch((error) => {
      if (response.headersSent) return destroyResponse(response)
      const isOurs = error instanceof ManyhostError
      const status = isOurs ? error.status : 500
      sendJson(response, status, {
        error: describeError(error),
        ...(isOurs && { code: error.code }),
      })
    })
  }
  const http = tls
    ? createTlsServer({ ...serverOptions(HTTP_LIMITS), ...tls }, onRequest)
    : createServer(serverOptions(HTTP_LIMITS), onRequest)
  guardConnections(http, HTTP_LIMITS)

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://tasks')
    const { method } = request
    if (pathname === '/health' && method === 'GET') {
      return sendJson(response, server.state === 'working' ? 200 : 503, { state: server.state })
    }
    if (
      secret !== undefined &&
      !isSameSecret(secret, parseBearerToken(request.headers.authorization))
    ) {
      response.setHeader('www-authenticate', 'Bearer realm="tasks"')
      return sendJson(response, 401, { error: 'the task server wants its token' })
    }
    if (pathname === '/tasks' && method === 'POST') return submit(request, response, searchParams)
    if (pathname === '/progress' && method === 'GET') {
      return sendJson(
        response,
        200,
        await server.store.progress(server.maxAttempts, server.batches),
      )
    }
    const [, id = '', what = ''] = /^\/tasks\/([\w-]{1,100})(?:\/(\w+))?$/.exec(pathname) ?? []
    if (id && what === '' && method === 'GET') return look(response, id, searchParams)
    if (id && what === '' && method === 'DELETE') {
      const count = await server.cancel({ where: [{ field: 'id', operator: '==', value: id }] })
      return sendJson(response, count > 0 ? 200 : 404, { cancelled: count })
    }
    if (id && method === 'GET') return output(response, id, what)
    sendJson(response, 404, { error: `there is no ${method} ${pathname}` })
  }

  async function submit(
    request: IncomingMessage,
    response: ServerResponse,
    search: URLSearchParams,
  ): Promise<void> {
    if (server.state !== 'working')
      return sendJson(response, 503, { error: 'it takes no new tasks' })
    const tasks: NewTask[] = []
    const reading = { kind: 'json', make: server.accept } as const
    for await (const task of readTasks(limitBody(request), reading)) {
      if (tasks.push(task) > MAX_TASKS) {
        return sendJson(response, 413, { error: `more than ${MAX_TASKS} tasks in one POST` })
      }
    }
    const key = String(request.headers['idempotency-key'] ?? '')
    let ids = key === '' ? undefined : answers.get(key)
    if (!ids) {
      ids = server.add(tasks, search.get('submit_id') ?? undefined)
      if (key !== '' && key.length <= 200) {
        answers.set(key, ids)
        ids.catch(() => answers.delete(key))
        if (answers.size > MAX_IDEMPOTENCY_KEYS) answers.delete([...answers.keys()][0] as string)
      }
    }
    sendJson(response, 200, { ids: await ids })
  }

  /** With `?wait=ms`, answers when it has its outcome, or that time is over. */
  async function look(
    response: ServerResponse,
    id: string,
    search: URLSearchParams,
  ): Promise<void> {
    const wait = Math.min(MAX_WAIT_MS, Math.max(0, Number(search.get('wait') ?? 0) || 0))
    const deadline = now() + wait
    let task = await last(await server.store.get(id))
    while (task.completionTime === null || isTriedAgain(task)) {
      if (now() >= deadline || response.destroyed) break
      await sleep(POLL_INTERVAL_MS)
      task = await last(await server.store.get(task.id))
    }
    const isOver = task.completionTime !== null && !isTriedAgain(task)
    sendJson(response, 200, { ...taskToJson(task), is_over: isOver })
  }

  /** It failed, and its next attempt has not begun. */
  function isTriedAgain({ exitStatus, attempt, nextId }: Task): boolean {
    const isFailure = exitStatus !== null && exitStatus !== 0 && exitStatus !== -1
    return nextId !== null || (isFailure && attempt < server.maxAttempts)
  }

  async function last(task: Task): Promise<Task> {
    let found = task
    while (found.nextId !== null) found = await server.store.get(found.nextId)
    return found
  }

  async function output(response: ServerResponse, id: string, what: string): Promise<void> {
    const task = await server.store.get(id)
    const path =
      what === 'stdout'
        ? task.outpath
        : what === 'stderr'
          ? task.errpath
          : what === 'csv'
            ? task.csvpath
            : undefined
    if (path === undefined) return sendJson(response, 404, { error: 'stdout, stderr or csv' })
    if (path === null && task.captured && what !== 'csv') return void response.end()
    if (path === null) return sendJson(response, 404, { error: `nothing of its ${what} was kept` })
    response.setHeader('content-type', 'application/octet-stream')
    await pipeline(createReadStream(path), response)
  }

  await new Promise<void>((resolve, reject) => {
    http.once('error', reject)
    http.listen(port, host, resolve)
  })
  const at = http.address() as AddressInfo
  const name = at.family === 'IPv6' ? `[${at.address}]` : at.address
  return {
    url: `${tls ? 'https' : 'http'}://${name}:${at.port}`,
    token: secret,
    async close() {
      http.closeAllConnections()
      await new Promise((resolve) => http.close(resolve))
    },
  }
}

function readTlsFiles({
  certFile,
  certKeyFile,
}: TaskApiOptions): { cert: Buffer; key: Buffer } | undefined {
  if (certFile === undefined && certKeyFile === undefined) return undefined
  if (certFile === undefined || certKeyFile === undefined) {
    throw invalidOption('listen: certFile and certKeyFile go together')
  }
  try {
    const [cert, key] = [readFileSync(certFile), readFileSync(certKeyFile)]
    createSecureContext({ cert, key })
    return { cert, key }
  } catch (error) {
    throw invalidOption(`listen: ${certFile}, ${certKeyFile}: ${describeError(error)}`)
  }
}

function invalidOption(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}

async function* limitBody(request: IncomingMessage): AsyncGenerator<Uint8Array> {
  let size = 0
  for await (const chunk of request as AsyncIterable<Uint8Array>) {
    size += chunk.length
    if (size > MAX_BODY_BYTES) {
      throw new ManyhostError(
        'MANYHOST_BODY_TOO_LARGE',
        `more than ${MAX_BODY_BYTES} bytes of tasks in one POST`,
      )
    }
    yield chunk
  }
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(toJson(body))
}
