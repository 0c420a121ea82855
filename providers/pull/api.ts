/**
 * The HTTP side: from a request to what the hub is asked, and back. The paths are TopChef's second version's; those of
 * its first that clients still use are answered by the same functions.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { asError, ManyhostError } from '../../src/core/errors.ts'
import { PullAccess, refuseBrowserPages } from './access.ts'
import type { PullApiReply } from './envelope.ts'
import type { JobHub } from './job-hub.ts'
import {
  createNotJson,
  createRefusal,
  type ParsedJson,
  parseJson,
  Refusal,
  readBody,
} from './json.ts'
import { PULL_ROUTES } from './routes.ts'

export interface PullApiOptions {
  /** Where it is mounted: `/workers`, or nothing. */
  readonly prefix: string
  readonly token: string | undefined
  /** Bytes. */
  readonly bodySize: number
  /** Seconds. */
  readonly maxWait: number
  readonly about: Readonly<Record<string, string>>
}

/** One request, as the routes see it. */
export interface PullApiRequest {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly method: string
  readonly query: URLSearchParams
  /** Absolute, of the root of the API. */
  readonly baseUrl: string
  /** Parts of the path that stand for something: ids. */
  readonly pathIds: readonly string[]
  readonly hub: JobHub
  readonly access: PullAccess
  readonly options: PullApiOptions
  /** The body; undefined when there is none. @throws Refusal 400, 413 */
  readJson(): Promise<ParsedJson | undefined>
}

export type PullRoute = (ask: PullApiRequest) => PullApiReply | Promise<PullApiReply>

/** Methods that a POST may stand for (`X-HTTP-Method-Override`): never a safe one. */
const OVERRIDE_METHODS = new Set(['PATCH', 'PUT', 'DELETE'])

export class PullApi {
  readonly #hub: () => JobHub | Promise<JobHub>
  readonly #options: PullApiOptions
  readonly #access: PullAccess

  constructor(hub: () => JobHub | Promise<JobHub>, options: PullApiOptions) {
    this.#hub = hub
    this.#options = options
    this.#access = new PullAccess(options.token)
  }

  /** Answers the request, whatever it is. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', ignore)
    let reply: PullApiReply
    try {
      reply = await this.#route(request, response)
    } catch (error) {
      reply = toErrorReply(asError(error))
    }
    if (response.destroyed || response.headersSent) return
    writeReply(request, response, reply)
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<PullApiReply> {
    const { prefix, token, bodySize } = this.#options
    refuseBrowserPages(request, token === undefined)
    const [path = '/', search = ''] = (request.url ?? '/').split('?', 2) as [string, string?]
    if (prefix !== '' && path !== prefix && !path.startsWith(`${prefix}/`))
      throw createNotFound(path)
    const parts = path.slice(prefix.length).split('/').filter(Boolean)
    const found = PULL_ROUTES.find(({ pattern }) => matchesPattern(pattern, parts))
    if (!found) throw createNotFound(path)
    const method = resolveMethod(request)
    const route = found.methods[method === 'HEAD' ? 'GET' : method]
    if (!route) {
      const allow = Object.keys(found.methods).join(', ')
      throw createRefusal(405, 'Method Not Allowed', `${path} takes ${allow}, not ${method}`, {
        allow,
      })
    }
    const scheme = 'encrypted' in request.socket ? 'https' : 'http'
    return route({
      request,
      response,
      method,
      query: new URLSearchParams(search),
      baseUrl: `${scheme}://${request.headers.host ?? 'localhost'}${prefix}`,
      pathIds: parts.filter((_, index) => found.pattern[index] === ':id'),
      hub: await this.#hub(),
      access: this.#access,
      options: this.#options,
      readJson: () => readJsonBody(request, bodySize),
    })
  }
}

function resolveMethod({ method = 'GET', headers }: IncomingMessage): string {
  const override = headers['x-http-method-override']
  if (method !== 'POST' || typeof override !== 'string') return method
  const wanted = override.toUpperCase()
  if (OVERRIDE_METHODS.has(wanted)) return wanted
  const detail = `X-HTTP-Method-Override may be ${[...OVERRIDE_METHODS].join(', ')}`
  throw createRefusal(400, 'Bad Method Override', detail)
}

function matchesPattern(pattern: readonly string[], parts: readonly string[]): boolean {
  return (
    pattern.length === parts.length &&
    pattern.every((part, index) => part === ':id' || part === parts[index])
  )
}

function createNotFound(path: string): Refusal {
  return createRefusal(404, 'Not Found', `there is nothing at ${path.slice(0, 200)}`)
}

async function readJsonBody(
  request: IncomingMessage,
  limit: number,
): Promise<ParsedJson | undefined> {
  const text = await readBody(request, limit)
  const type = request.headers['content-type']
  if (text === '' && type === undefined) return undefined
  if (!/^application\/json *(?:;|$)/i.test(type ?? '')) throw createNotJson()
  return parseJson(text)
}

function toErrorReply(error: Error): PullApiReply {
  if (error instanceof Refusal) {
    return { status: error.status, body: { errors: error.faults }, headers: error.headers }
  }
  // What went wrong inside is nobody's business outside, but for what we say ourselves.
  const known = error instanceof ManyhostError
  const status = known ? error.status : 500
  const detail = known ? error.message : 'the request failed here'
  return { status, body: { errors: [{ title: 'Server Error', detail, status_code: status }] } }
}

function writeReply(request: IncomingMessage, response: ServerResponse, reply: PullApiReply): void {
  const { status, body: given, headers } = reply
  const bytes = given === undefined ? '' : JSON.stringify(given)
  // What was not read of the body would else be taken for the next request.
  if (!request.complete && request.method !== 'GET') response.setHeader('connection', 'close')
  response.writeHead(status, {
    ...(given !== undefined && {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(bytes),
    }),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...headers,
  })
  response.end(request.method === 'HEAD' ? undefined : bytes)
}

function ignore(): void {}
