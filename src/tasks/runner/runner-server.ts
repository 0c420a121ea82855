/** The runner's HTTP side: an ordinary instance of an ordinary service. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { destroyResponse } from '../../core/http/http-server.ts'
import { isSameSecret, parseBearerToken } from '../../core/http-caller.ts'
import { checkOptions } from '../../core/options.ts'
import { parseJson } from '../text/exact-json.ts'
import { readLines } from '../text/lines.ts'
import { BUNDLE_RULES } from './options.ts'
import { OutputRedirect } from './output-redirect.ts'
import {
  type BundleOptions,
  type OutputStream,
  RUNNER_CONTENT_TYPE,
  type RunTask,
} from './protocol.ts'
import { RunnerResponseWriter } from './response-writer.ts'
import type { Bundle, Runner } from './runner.ts'

/** Longest task as JSON, in bytes: a command of 1 MiB, each of its characters as \\u0000. */
const MAX_TASK_BYTES = 8_388_608

/**
 * Its clients are task servers. One that ends its connection is gone, and its tasks are cancelled at once; one that
 * reads slowly holds its tasks back, which is what it wants.
 */
const HTTP_OPTIONS = {
  // Requests, and answers, last as long as tasks do.
  requestTimeout: 0,
  headersTimeout: 10_000,
  // Longer than clients keep idle connections, so that none is closed under a request.
  keepAliveTimeout: 75_000,
  // Finds clients that vanished without a word.
  keepAlive: true,
  keepAliveInitialDelay: 60_000,
}
/** At a time; more are closed at once. */
const MAX_CONNECTIONS = 10_000

export interface RunnerServer {
  readonly server: Server
  /** Ends what is open, and the files of redirected output. */
  close(): Promise<void>
}

export interface RunnerServerOptions {
  /** What requests must carry as `Authorization: Bearer`; `undefined`: whoever connects may run commands. */
  readonly token?: string | undefined
  /** Takes what there is to say to who runs the runner. */
  readonly log?: (line: string) => void
}

export function createRunnerServer(
  runner: Runner,
  { token, log = () => {} }: RunnerServerOptions = {},
): RunnerServer {
  const bundles = new Set<Bundle>()
  const onRoom = (): void => {
    for (const bundle of bundles) bundle.resume()
  }
  const { output, errors } = runner.settings
  const files: { stdout?: OutputRedirect; stderr?: OutputRedirect } = {
    ...(output !== undefined && { stdout: new OutputRedirect(output, onRoom, log) }),
    ...(errors !== undefined && { stderr: new OutputRedirect(errors, onRoom, log) }),
  }
  const server = createServer(HTTP_OPTIONS, (request, response) => {
    handle(request, response).catch((error) => {
      if (response.headersSent) return destroyResponse(response)
      const status = error instanceof ManyhostError ? error.status : 500
      sendJson(response, status, { error: describeError(error) })
    })
  })
  server.maxConnections = MAX_CONNECTIONS

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://runner')
    const { method } = request
    if (pathname === '/health' && method === 'GET') return health(response)
    if (
      token !== undefined &&
      !isSameSecret(token, parseBearerToken(request.headers.authorization))
    ) {
      response.setHeader('www-authenticate', 'Bearer realm="runner"')
      return sendJson(response, 401, { error: 'a runner wants its token' })
    }
    if (pathname === '/tasks' && method === 'POST') return run(request, response)
    if (pathname === '/tasks' && method === 'GET') return sendJson(response, 200, runner.tasks)
    const id = /^\/tasks\/([^/]{1,200})$/.exec(pathname)?.[1]
    if (id !== undefined && method === 'DELETE') {
      const fence = searchParams.get('fence')
      const found = runner.cancel(
        decodeURIComponent(id),
        fence === null ? undefined : Number(fence),
      )
      return sendJson(response, found ? 200 : 404, { cancelled: found })
    }
    sendJson(response, 404, { error: `there is no ${method} ${pathname}` })
  }

  function health(response: ServerResponse): void {
    const { state, running, waiting } = runner
    sendJson(response, state === 'working' ? 200 : 503, {
      state,
      running,
      waiting,
      ...runner.hello,
    })
  }

  async function run(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (runner.state !== 'working') {
      response.setHeader('x-manyhost-return', '1')
      return sendJson(response, 503, { error: 'the runner takes no new tasks' })
    }
    const lines = readLines(request, MAX_TASK_BYTES)[Symbol.asyncIterator]()
    const first = await lines.next()
    const options = parseBundleOptions(first.value?.text)
    const head = options ? undefined : first.value
    const { settings } = runner
    const { bundleSize, bundleWait, capture } = { ...settings, ...options }
    const outbox = new RunnerResponseWriter(response, { bundleSize, bundleWait })
    const say = (index: number, stream: OutputStream, chunk: Buffer): boolean => {
      if (stream !== 'csv' && files[stream]) return files[stream].write(chunk)
      return capture || stream === 'csv' ? outbox.writeOutput(index, stream, chunk) : true
    }
    const bundle = runner.openBundle(options ?? {}, {
      onOutput: say,
      onOutcome: (outcome) => outbox.writeOutcome(outcome),
      onReturned: ({ id, fence }) => outbox.writeMessage('returned', 0, [{ id, fence }]),
      onDone: () => outbox.end(),
    })
    bundles.add(bundle)
    response.on('drain', () => bundle.resume())
    response.on('close', () => {
      bundles.delete(bundle)
      outbox.close()
      if (!response.writableFinished) bundle.cancel()
      // What was paused for the reader has none now.
      bundle.resume()
    })
    response.writeHead(200, { 'content-type': RUNNER_CONTENT_TYPE, 'cache-control': 'no-store' })
    outbox.writeMessage('hello', 0, runner.hello)
    outbox.flush()
    let count = 0
    const take = (text: unknown, problem?: string): void => {
      if (text === '' && problem === undefined) return
      const task =
        ++count > settings.maxTasks ? 'too many tasks in one POST' : parseTask(text, problem)
      if (typeof task === 'string') outbox.writeMessage('refused', bundle.skipLine(), task)
      else bundle.add(task)
    }
    if (head) take(head.text, head.problem)
    for (;;) {
      const { done, value } = await lines.next()
      if (done) break
      take(value.text, value.problem)
    }
    bundle.end()
  }

  return {
    server,
    async close() {
      server.closeAllConnections()
      server.close()
      await Promise.all([files.stdout?.close(), files.stderr?.close()])
    },
  }
}

/** The first line, when it is about the bundle and no task. @throws ManyhostError MANYHOST_INVALID_OPTION */
function parseBundleOptions(text: unknown): BundleOptions | undefined {
  const given = parseJsonOrUndefined(text)
  if (typeof given !== 'object' || given === null || !('bundle' in given)) return undefined
  return checkOptions('bundle', given.bundle, BUNDLE_RULES) as BundleOptions
}

/** A task, or why it is none. */
function parseTask(text: unknown, problem: string | undefined): RunTask | string {
  if (problem !== undefined) return problem
  const given = parseJsonOrUndefined(text) as Partial<RunTask> | undefined
  if (typeof given !== 'object' || given === null) return 'a line is no JSON object'
  const { id, args, fence, cores, memory, timeout, tag, command, template, cwd, shell, env } = given
  if (typeof id !== 'string' || id === '' || id.length > 200) return 'id must be a text'
  if (typeof args !== 'string') return 'args must be a text'
  if (!Number.isSafeInteger(fence)) return 'fence must be a whole number'
  for (const [name, value] of Object.entries({ cores, memory, timeout })) {
    if (value === undefined || value === null) continue
    if (!Number.isFinite(value) || value < 0) return `${name} must be a number from 0 up`
  }
  if (tag !== undefined && (typeof tag !== 'object' || tag === null)) return 'tag must be an object'
  for (const [name, value] of Object.entries({ command, template, cwd, shell })) {
    if (value !== undefined && value !== null && typeof value !== 'string') {
      return `${name} must be a text`
    }
  }
  if (!isValidEnvironment(env)) return 'env must be an object of names of variables and texts'
  return given as RunTask
}

function isValidEnvironment(env: unknown): boolean {
  if (env === undefined || env === null) return true
  return (
    typeof env === 'object' &&
    Object.entries(env).every(
      ([name, value]) =>
        /^[A-Za-z_]\w*$/.test(name) && typeof value === 'string' && !value.includes('\0'),
    )
  )
}

function parseJsonOrUndefined(text: unknown): unknown {
  if (typeof text !== 'string') return undefined
  try {
    return parseJson(text)
  } catch {
    return undefined
  }
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}
