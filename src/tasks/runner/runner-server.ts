/** The HTTP server of a runner, which makes it an ordinary instance of an ordinary service. */
import { createServer, type Server, type ServerResponse } from 'node:http'
import { createProblem, sendProblem } from '../../core/http/problem.ts'
import {
  createRouteHandler,
  type HttpRoute,
  type RouteCall,
} from '../../core/http/route-handler.ts'
import { readLines, type SourceLine } from '../text/lines.ts'
import type { Bundle } from './bundle.ts'
import { parseBundleOptions, parseRunTask } from './bundle-lines.ts'
import { OutputRedirect } from './output-redirect.ts'
import { type OutputStream, RUNNER_CONTENT_TYPE } from './protocol.ts'
import { RunnerResponseWriter } from './response-writer.ts'
import type { Runner } from './runner.ts'

/** Longest task as JSON, in bytes: a command of 1 MiB, each of its characters as \\u0000. */
const MAX_TASK_BYTES = 8_388_608

/**
 * The clients are task servers. A client that ends its connection is gone, and its tasks are cancelled at once. A client that
 * reads slowly holds its tasks back, as it should.
 */
const HTTP_OPTIONS = {
  // Requests and answers last as long as tasks do.
  requestTimeout: 0,
  headersTimeout: 10_000,
  // Longer than clients keep idle connections, so that none is closed under a request.
  keepAliveTimeout: 75_000,
  // Finds clients that vanished without a word.
  keepAlive: true,
  keepAliveInitialDelay: 60_000,
}
/** More connections are closed at once. */
const MAX_CONNECTIONS = 10_000

export interface RunnerServer {
  readonly server: Server
  /** Ends all connections, and closes the files of redirected output. */
  close(): Promise<void>
}

export interface RunnerServerOptions {
  /** What requests must carry as `Authorization: Bearer`; undefined: everybody who connects may run commands. */
  readonly token?: string | undefined
  /** Takes messages for the user who runs the runner. */
  readonly log?: (line: string) => void
}

export function createRunnerServer(
  runner: Runner,
  { token, log = () => {} }: RunnerServerOptions = {},
): RunnerServer {
  const api = new RunnerApi(runner, log)
  const handler = createRouteHandler(api.routes, {
    token,
    realm: 'runner',
    detail: 'the runner needs its token: send Authorization: Bearer <token>',
  })
  const server = createServer(HTTP_OPTIONS, handler)
  server.maxConnections = MAX_CONNECTIONS
  return {
    server,
    async close() {
      server.closeAllConnections()
      server.close()
      await api.close()
    },
  }
}

class RunnerApi {
  readonly routes: readonly HttpRoute[] = [
    { method: 'GET', path: '/health', isPublic: true, handle: (call) => this.#getHealth(call) },
    { method: 'POST', path: '/tasks', handle: (call) => this.#runTasks(call) },
    { method: 'GET', path: '/tasks', handle: (call) => this.#listTasks(call) },
    { method: 'DELETE', path: '/tasks/{id}', handle: (call) => this.#cancelTask(call) },
  ]
  readonly #runner: Runner
  readonly #bundles = new Set<Bundle>()
  /** Outputs that go to files of this machine. */
  readonly #redirects: { stdout?: OutputRedirect; stderr?: OutputRedirect } = {}

  constructor(runner: Runner, log: (line: string) => void) {
    this.#runner = runner
    const { output, errors } = runner.settings
    const resume = (): void => {
      for (const bundle of this.#bundles) bundle.resume()
    }
    if (output !== undefined) this.#redirects.stdout = new OutputRedirect(output, resume, log)
    if (errors !== undefined) this.#redirects.stderr = new OutputRedirect(errors, resume, log)
  }

  async close(): Promise<void> {
    const { stdout, stderr } = this.#redirects
    await Promise.all([stdout?.close(), stderr?.close()])
  }

  #getHealth({ response }: RouteCall): void {
    const { state, running, waiting, hello } = this.#runner
    sendJson(response, state === 'working' ? 200 : 503, { state, running, waiting, ...hello })
  }

  #listTasks({ response }: RouteCall): void {
    sendJson(response, 200, this.#runner.tasks)
  }

  #cancelTask({ response, params, query }: RouteCall): void {
    const id = params.id as string
    const fence = query.get('fence')
    const cancelled = this.#runner.cancel(id, fence === null ? undefined : Number(fence))
    if (cancelled) return sendJson(response, 200, { cancelled })
    sendProblem(response, createProblem(404, `task ${id} is not here`, { cancelled }))
  }

  async #runTasks({ request, response }: RouteCall): Promise<void> {
    if (this.#runner.state !== 'working') {
      const problem = createProblem(503, 'the runner takes no new tasks: it drains')
      return sendProblem(response, problem, { 'x-manyhost-return': '1' })
    }
    const lines = readLines(request, MAX_TASK_BYTES)[Symbol.asyncIterator]()
    const first = await lines.next()
    const options = parseBundleOptions(first.value?.text)
    const { bundleSize, bundleWait, capture } = { ...this.#runner.settings, ...options }
    const writer = new RunnerResponseWriter(response, { bundleSize, bundleWait })
    const redirects = this.#redirects
    const bundle = this.#runner.openBundle(options ?? {}, {
      onOutput(index: number, stream: OutputStream, chunk: Buffer): boolean {
        if (stream === 'csv') return writer.writeOutput(index, stream, chunk)
        const redirect = redirects[stream]
        if (redirect) return redirect.write(chunk)
        return capture ? writer.writeOutput(index, stream, chunk) : true
      },
      onOutcome: (outcome) => writer.writeOutcome(outcome),
      onReturned: ({ id, fence }) => writer.writeMessage('returned', 0, [{ id, fence }]),
      onDone: () => writer.end(),
    })
    this.#watchResponse(response, bundle, writer)
    response.writeHead(200, { 'content-type': RUNNER_CONTENT_TYPE, 'cache-control': 'no-store' })
    writer.writeMessage('hello', 0, this.#runner.hello)
    writer.flush()
    const reader = new BundleReader(bundle, writer, this.#runner.settings.maxTasks)
    // A first line that is not about the bundle is a task.
    if (!options && first.value) reader.take(first.value)
    for (let next = await lines.next(); !next.done; next = await lines.next())
      reader.take(next.value)
    bundle.end()
  }

  #watchResponse(response: ServerResponse, bundle: Bundle, writer: RunnerResponseWriter): void {
    this.#bundles.add(bundle)
    response.on('drain', () => bundle.resume())
    response.on('close', () => {
      this.#bundles.delete(bundle)
      writer.close()
      if (!response.writableFinished) bundle.cancel()
      // Tasks that were paused because the client read slowly go on: the client is gone.
      bundle.resume()
    })
  }
}

/** Adds the tasks of a POST to their bundle, line by line. */
class BundleReader {
  readonly #bundle: Bundle
  readonly #writer: RunnerResponseWriter
  readonly #maxTasks: number
  #count = 0

  constructor(bundle: Bundle, writer: RunnerResponseWriter, maxTasks: number) {
    this.#bundle = bundle
    this.#writer = writer
    this.#maxTasks = maxTasks
  }

  take({ text, problem }: Pick<SourceLine, 'text' | 'problem'>): void {
    if (text === '' && problem === undefined) return
    this.#count++
    const isTooMany = this.#count > this.#maxTasks
    const task = isTooMany
      ? `more than ${this.#maxTasks} tasks in one POST`
      : parseRunTask(text, problem)
    if (typeof task === 'string')
      this.#writer.writeMessage('refused', this.#bundle.skipLine(), task)
    else this.#bundle.add(task)
  }
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}
