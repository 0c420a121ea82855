/**
 * The HTTP side of the hub: finds the route of a request, and writes its answer. The paths are those of TopChef's second
 * version. The paths of its first version that clients still use are answered by the same routes.
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
import type { PullApiOptions } from './route.ts'
import { PULL_ROUTES } from './routes.ts'

/** Methods that a POST may stand for (`X-HTTP-Method-Override`). A safe method is not among them. */
const OVERRIDE_METHODS = new Set(['PATCH', 'PUT', 'DELETE'])

export class PullApi {
  readonly #getHub: () => JobHub | Promise<JobHub>
  readonly #options: PullApiOptions
  readonly #access: PullAccess

  /** @param getHub opens the hub, if it is not open yet */
  constructor(getHub: () => JobHub | Promise<JobHub>, options: PullApiOptions) {
    this.#getHub = getHub
    this.#options = options
    this.#access = new PullAccess(options.token)
  }

  /** Answers the request. Never rejects. */
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
    const segments = path.slice(prefix.length).split('/').filter(Boolean)
    const entry = PULL_ROUTES.find(({ pattern }) => matchesPattern(pattern, segments))
    if (!entry) throw createNotFound(path)
    const method = resolveMethod(request)
    const route = entry.methods[method === 'HEAD' ? 'GET' : method]
    if (!route) {
      const allow = Object.keys(entry.methods).join(', ')
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
      pathIds: segments.filter((_, index) => entry.pattern[index] === ':id'),
      hub: await this.#getHub(),
      access: this.#access,
      options: this.#options,
      readJson: () => readJsonBody(request, bodySize),
    })
  }
}

/** @throws Refusal 400 */
function resolveMethod({ method = 'GET', headers }: IncomingMessage): string {
  const override = headers['x-http-method-override']
  if (method !== 'POST' || typeof override !== 'string') return method
  const wanted = override.toUpperCase()
  if (OVERRIDE_METHODS.has(wanted)) return wanted
  const detail = `X-HTTP-Method-Override may be ${[...OVERRIDE_METHODS].join(', ')}`
  throw createRefusal(400, 'Bad Method Override', detail)
}

/** Not core's `Router`: TopChef's API ignores empty segments, and its ids are decoded by `parseUuid`. */
function matchesPattern(pattern: readonly string[], segments: readonly string[]): boolean {
  return (
    pattern.length === segments.length &&
    pattern.every((part, index) => part === ':id' || part === segments[index])
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
  // Only messages that manyhost itself has written go out. Any other may hold what a caller must not see.
  const known = error instanceof ManyhostError
  const status = known ? error.status : 500
  const detail = known ? error.message : 'the request failed here'
  return { status, body: { errors: [{ title: 'Server Error', detail, status_code: status }] } }
}

function writeReply(request: IncomingMessage, response: ServerResponse, reply: PullApiReply): void {
  const { status, body, headers } = reply
  const text = body === undefined ? '' : JSON.stringify(body)
  // The rest of a body that was not read would be taken for the next request.
  if (!request.complete && request.method !== 'GET') response.setHeader('connection', 'close')
  response.writeHead(status, {
    ...(body !== undefined && {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
    }),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...headers,
  })
  response.end(request.method === 'HEAD' ? undefined : text)
}

function ignore(): void {}
