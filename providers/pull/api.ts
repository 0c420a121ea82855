/**
 * The HTTP side: from a request to what the hub is asked, and back. The paths are TopChef's second version's; those of
 * its first that clients still use are answered by the same functions.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { asError, ManyhostError } from '../../src/core/errors.ts'
import { Access, refusePages } from './access.ts'
import type { Reply } from './envelope.ts'
import type { Hub } from './hub.ts'
import { notJson, type Parsed, parseJson, Refusal, readBody, refuse } from './json.ts'
import { routes } from './routes.ts'

export interface ApiOptions {
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
export interface Ask {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly method: string
  readonly query: URLSearchParams
  /** Absolute, of the root of the API. */
  readonly base: string
  /** Parts of the path that stand for something: ids. */
  readonly ids: readonly string[]
  readonly hub: Hub
  readonly access: Access
  readonly options: ApiOptions
  /** The body; undefined when there is none. @throws Refusal 400, 413 */
  body(): Promise<Parsed | undefined>
}

export type Route = (ask: Ask) => Reply | Promise<Reply>

/** Methods that a POST may stand for (`X-HTTP-Method-Override`): never a safe one. */
const OVERRIDES = new Set(['PATCH', 'PUT', 'DELETE'])

export class Api {
  readonly #hub: () => Hub | Promise<Hub>
  readonly #options: ApiOptions
  readonly #access: Access

  constructor(hub: () => Hub | Promise<Hub>, options: ApiOptions) {
    this.#hub = hub
    this.#options = options
    this.#access = new Access(options.token)
  }

  /** Answers the request, whatever it is. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', ignore)
    let reply: Reply
    try {
      reply = await this.#answer(request, response)
    } catch (error) {
      reply = replyTo(asError(error))
    }
    if (response.destroyed || response.headersSent) return
    write(request, response, reply)
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<Reply> {
    const { prefix, token, bodySize } = this.#options
    refusePages(request, token === undefined)
    const [path = '/', search = ''] = (request.url ?? '/').split('?', 2) as [string, string?]
    if (prefix !== '' && path !== prefix && !path.startsWith(`${prefix}/`)) throw noRoute(path)
    const parts = path.slice(prefix.length).split('/').filter(Boolean)
    const found = routes.find(({ pattern }) => fits(pattern, parts))
    if (!found) throw noRoute(path)
    const method = methodOf(request)
    const route = found.methods[method === 'HEAD' ? 'GET' : method]
    if (!route) {
      const allow = Object.keys(found.methods).join(', ')
      throw refuse(405, 'Method Not Allowed', `${path} takes ${allow}, not ${method}`, { allow })
    }
    const scheme = 'encrypted' in request.socket ? 'https' : 'http'
    return route({
      request,
      response,
      method,
      query: new URLSearchParams(search),
      base: `${scheme}://${request.headers.host ?? 'localhost'}${prefix}`,
      ids: parts.filter((_, index) => found.pattern[index] === ':id'),
      hub: await this.#hub(),
      access: this.#access,
      options: this.#options,
      body: () => body(request, bodySize),
    })
  }
}

function methodOf({ method = 'GET', headers }: IncomingMessage): string {
  const override = headers['x-http-method-override']
  if (method !== 'POST' || typeof override !== 'string') return method
  const wanted = override.toUpperCase()
  if (OVERRIDES.has(wanted)) return wanted
  const detail = `X-HTTP-Method-Override may be ${[...OVERRIDES].join(', ')}`
  throw refuse(400, 'Bad Method Override', detail)
}

function fits(pattern: readonly string[], parts: readonly string[]): boolean {
  return (
    pattern.length === parts.length &&
    pattern.every((part, index) => part === ':id' || part === parts[index])
  )
}

function noRoute(path: string): Refusal {
  return refuse(404, 'Not Found', `there is nothing at ${path.slice(0, 200)}`)
}

async function body(request: IncomingMessage, limit: number): Promise<Parsed | undefined> {
  const text = await readBody(request, limit)
  const type = request.headers['content-type']
  if (text === '' && type === undefined) return undefined
  if (!/^application\/json *(?:;|$)/i.test(type ?? '')) throw notJson()
  return parseJson(text)
}

function replyTo(error: Error): Reply {
  if (error instanceof Refusal) {
    return { status: error.status, body: { errors: error.faults }, headers: error.headers }
  }
  // What went wrong inside is nobody's business outside, but for what we say ourselves.
  const known = error instanceof ManyhostError
  const status = known ? error.status : 500
  const detail = known ? error.message : 'the request failed here'
  return { status, body: { errors: [{ title: 'Server Error', detail, status_code: status }] } }
}

function write(request: IncomingMessage, response: ServerResponse, reply: Reply): void {
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
