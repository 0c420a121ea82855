/** A task server's HTTP side: tasks are handed in, looked at, waited for and cancelled, and their outputs fetched. */
import { randomBytes } from 'node:crypto'
import { createReadStream, readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { createSecureContext } from 'node:tls'
import { describe, ManyhostError } from '../../core/errors.ts'
import { breakOff, guardConnections, serverOptions } from '../../core/http/http-server.ts'
import { bearerOf, isSameSecret } from '../../core/http-caller.ts'
import { isLoopback } from '../../core/options.ts'
import { now, sleep } from '../../core/time.ts'
import { toJson } from '../json.ts'
import { readTasks } from '../source.ts'
import { taskAsJson } from '../store/row.ts'
import type { NewTask, Task } from '../task.ts'
import type { TaskServer } from './server.ts'

/** Tasks, and bytes, that one POST may hand in: they go in together or not at all. */
const MOST_TASKS = 10_000
const MOST_BYTES = 64 << 20

/** Longest wait of one request for an outcome, in ms. */
const LONGEST_WAIT = 60_000
const LOOK = 20

/** Submissions whose answer is kept for who asks again with the same key. */
const MOST_KEYS = 1_000

export interface DoorOptions {
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

export interface Door {
  readonly url: string
  readonly token: string | undefined
  close(): Promise<void>
}

/** A POST may bring 64 MiB. Whoever waits for a task holds a connection. */
const LIMITS = { requestTimeout: 120_000, connections: 10_000 }

/** @throws Error EADDRINUSE and others, as the system says; ManyhostError MANYHOST_INVALID_OPTION */
export async function openDoor(server: TaskServer, options: DoorOptions): Promise<Door> {
  const { host = '127.0.0.1', port = 0, token, anyone = false, insecure = false } = options
  const tls = tlsOf(options)
  if (!tls && !insecure && !isLoopback(host)) {
    throw invalid(
      `listen: ${host} is not of this machine alone: give certFile and certKeyFile, or say insecure: true`,
    )
  }
  const secret = anyone ? undefined : (token ?? randomBytes(24).toString('hex'))
  const answers = new Map<string, Promise<string[]>>()
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    handle(request, response).catch((error) => {
      if (response.headersSent) return breakOff(response)
      const isOurs = error instanceof ManyhostError
      const status = isOurs ? error.status : 500
      say(response, status, { error: describe(error), ...(isOurs && { code: error.code }) })
    })
  }
  const http = tls
    ? createTlsServer({ ...serverOptions(LIMITS), ...tls }, onRequest)
    : createServer(serverOptions(LIMITS), onRequest)
  guardConnections(http, LIMITS)

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://tasks')
    const { method } = request
    if (pathname === '/health' && method === 'GET') {
      return say(response, server.state === 'working' ? 200 : 503, { state: server.state })
    }
    if (secret !== undefined && !isSameSecret(secret, bearerOf(request.headers.authorization))) {
      response.setHeader('www-authenticate', 'Bearer realm="tasks"')
      return say(response, 401, { error: 'the task server wants its token' })
    }
    if (pathname === '/tasks' && method === 'POST') return submit(request, response, searchParams)
    if (pathname === '/progress' && method === 'GET') {
      return say(response, 200, await server.store.progress(server.attempts, server.batches))
    }
    const [, id = '', what = ''] = /^\/tasks\/([\w-]{1,100})(?:\/(\w+))?$/.exec(pathname) ?? []
    if (id && what === '' && method === 'GET') return look(response, id, searchParams)
    if (id && what === '' && method === 'DELETE') {
      const count = await server.cancel({ where: [{ field: 'id', operator: '==', value: id }] })
      return say(response, count > 0 ? 200 : 404, { cancelled: count })
    }
    if (id && method === 'GET') return output(response, id, what)
    say(response, 404, { error: `there is no ${method} ${pathname}` })
  }

  async function submit(
    request: IncomingMessage,
    response: ServerResponse,
    search: URLSearchParams,
  ): Promise<void> {
    if (server.state !== 'working') return say(response, 503, { error: 'it takes no new tasks' })
    const tasks: NewTask[] = []
    const reading = { kind: 'json', make: server.accept } as const
    for await (const task of readTasks(bounded(request), reading)) {
      if (tasks.push(task) > MOST_TASKS) {
        return say(response, 413, { error: `more than ${MOST_TASKS} tasks in one POST` })
      }
    }
    const key = String(request.headers['idempotency-key'] ?? '')
    let ids = key === '' ? undefined : answers.get(key)
    if (!ids) {
      ids = server.add(tasks, search.get('submit_id') ?? undefined)
      if (key !== '' && key.length <= 200) {
        answers.set(key, ids)
        ids.catch(() => answers.delete(key))
        if (answers.size > MOST_KEYS) answers.delete([...answers.keys()][0] as string)
      }
    }
    say(response, 200, { ids: await ids })
  }

  /** With `?wait=ms`, answers when it has its outcome, or that time is over. */
  async function look(
    response: ServerResponse,
    id: string,
    search: URLSearchParams,
  ): Promise<void> {
    const wait = Math.min(LONGEST_WAIT, Math.max(0, Number(search.get('wait') ?? 0) || 0))
    const deadline = now() + wait
    let task = await last(await server.store.get(id))
    while (task.completionTime === null || isTriedAgain(task)) {
      if (now() >= deadline || response.destroyed) break
      await sleep(LOOK)
      task = await last(await server.store.get(task.id))
    }
    const isOver = task.completionTime !== null && !isTriedAgain(task)
    say(response, 200, { ...taskAsJson(task), is_over: isOver })
  }

  /** It failed, and its next attempt has not begun. */
  function isTriedAgain({ exitStatus, attempt, nextId }: Task): boolean {
    const isFailure = exitStatus !== null && exitStatus !== 0 && exitStatus !== -1
    return nextId !== null || (isFailure && attempt < server.attempts)
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
    if (path === undefined) return say(response, 404, { error: 'stdout, stderr or csv' })
    if (path === null && task.captured && what !== 'csv') return void response.end()
    if (path === null) return say(response, 404, { error: `nothing of its ${what} was kept` })
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

function tlsOf({ certFile, certKeyFile }: DoorOptions): { cert: Buffer; key: Buffer } | undefined {
  if (certFile === undefined && certKeyFile === undefined) return undefined
  if (certFile === undefined || certKeyFile === undefined) {
    throw invalid('listen: certFile and certKeyFile go together')
  }
  try {
    const [cert, key] = [readFileSync(certFile), readFileSync(certKeyFile)]
    createSecureContext({ cert, key })
    return { cert, key }
  } catch (error) {
    throw invalid(`listen: ${certFile}, ${certKeyFile}: ${describe(error)}`)
  }
}

function invalid(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}

async function* bounded(request: IncomingMessage): AsyncGenerator<Uint8Array> {
  let size = 0
  for await (const chunk of request as AsyncIterable<Uint8Array>) {
    size += chunk.length
    if (size > MOST_BYTES) {
      throw new ManyhostError(
        'MANYHOST_BODY_TOO_LARGE',
        `more than ${MOST_BYTES} bytes of tasks in one POST`,
      )
    }
    yield chunk
  }
}

function say(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(toJson(body))
}
