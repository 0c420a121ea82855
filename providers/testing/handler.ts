/** The two kinds of handler, those of node:http and those of the web, as one kind of function. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Duplex, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream } from 'node:stream/web'
import { describe } from '../../src/core/describe.ts'
import { ManyhostError } from '../../src/core/errors.ts'

/** Tells the handler which instance serves the request: `id` of the instance. */
type WithInstance = { readonly instance: string }

export type NodeRequest = IncomingMessage & WithInstance
export type WebRequest = Request & WithInstance

/** A handler of `node:http`; an Express or Koa application is one. A promise that it returns is awaited. */
export type NodeHandler = (req: NodeRequest, res: ServerResponse) => unknown
/** A handler of the web. `request.signal` is aborted when the caller has gone. */
export type WebHandler = (request: WebRequest) => Response | Promise<Response>
/** Takes connections that ask for an upgrade. Without it such a request is served as any other. */
export type Upgrade = (req: NodeRequest, socket: Duplex, head: Buffer) => void

export type HandlerStyle = 'node' | 'web'

/** Serves one request. Rejects when the handler failed. */
export type InProcessServe = (req: NodeRequest, res: ServerResponse) => Promise<void>

/** Makes one kind of function of both kinds of handler. @param style by default `node` for 2 parameters and more, else `web` */
export function createServe(
  handler: NodeHandler | WebHandler,
  style?: HandlerStyle,
): InProcessServe {
  if ((style ?? (handler.length >= 2 ? 'node' : 'web')) === 'node') {
    return (req, res) => serveNode(handler as NodeHandler, req, res)
  }
  return (req, res) => serveWeb(handler as WebHandler, req, res)
}

async function serveNode(
  handler: NodeHandler,
  req: NodeRequest,
  res: ServerResponse,
): Promise<void> {
  const answer = await handler(req, res)
  if (isResponse(answer) && !res.headersSent) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      "in-process: the handler has 2 parameters, so it is one for node:http, but it returned a Response; set style: 'web'",
    )
  }
}

async function serveWeb(handler: WebHandler, req: NodeRequest, res: ServerResponse): Promise<void> {
  const gone = new AbortController()
  res.once('close', () => {
    if (!res.writableFinished) gone.abort(new DOMException('The caller has gone', 'AbortError'))
  })
  const response: unknown = await handler(webRequest(req, gone.signal))
  if (!isResponse(response)) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `in-process: a web handler must return a Response, got ${describe(response)}; if it is a handler for node:http, set style: 'node'`,
    )
  }
  if (gone.signal.aborted) return void (await response.body?.cancel())
  // Response.error() has the status 0, and means a network error.
  if (response.status === 0) return void res.destroy()
  const headers = [...response.headers].filter(([name]) => name !== 'set-cookie').flat()
  for (const cookie of response.headers.getSetCookie()) headers.push('set-cookie', cookie)
  if (response.statusText) res.writeHead(response.status, response.statusText, headers)
  else res.writeHead(response.status, headers)
  if (!response.body) return void res.end()
  res.flushHeaders()
  await pipeline(Readable.fromWeb(response.body as ReadableStream), res)
}

function webRequest(req: NodeRequest, signal: AbortSignal): WebRequest {
  const path = req.url?.startsWith('/') ? req.url : '/'
  const headers = new Headers()
  for (let i = 0; i + 1 < req.rawHeaders.length; i += 2) {
    headers.append(req.rawHeaders[i] as string, req.rawHeaders[i + 1] as string)
  }
  const url = `http://${req.headers.host ?? 'in-process'}${path}`
  const request = new Request(url, {
    method: req.method as string,
    headers,
    signal,
    ...(hasBody(req) && { body: bodyOf(req), duplex: 'half' }),
  })
  return Object.defineProperty(request, 'instance', { value: req.instance }) as WebRequest
}

function hasBody(req: IncomingMessage): boolean {
  if (req.method === 'GET' || req.method === 'HEAD') return false
  return 'transfer-encoding' in req.headers || Number(req.headers['content-length'] ?? 0) > 0
}

/** Reads nothing before the handler reads: node:http drops a body that nobody has asked for. */
function bodyOf(req: IncomingMessage): ReadableStream {
  return (globalThis.ReadableStream as unknown as typeof ReadableStream).from(req)
}

/** By its properties, because a Response may come from another realm, or from the undici package. */
function isResponse(thing: unknown): thing is Response {
  return typeof thing === 'object' && thing !== null && 'status' in thing && 'headers' in thing
}
