/**
 * The undici interceptor behind `session.dispatcher()`: requests to a virtual origin go to their service, all others go
 * to the network. Callers see undici's own handler interface, so `request`, `stream`, `pipeline`, `fetch`, `WebSocket`
 * and further interceptors work unchanged.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { stringify } from 'node:querystring'
import type { Duplex } from 'node:stream'
import type { Dispatcher } from 'undici'
import { asError, ManyhostError } from '../core/errors.ts'
import { createFields } from '../core/null-prototype.ts'
import { FirstFailureReporter } from '../core/user-functions.ts'
import { prepareBody } from './body.ts'
import type { Exchange, RawHeaders, RequestInput, ResponseSink } from './exchange.ts'
import { rawPairs } from './raw-headers.ts'
import {
  buildRequestInput,
  flattenHeaders,
  type HeadersLike,
  type RequestIds,
  type RequestRouting,
} from './request-input.ts'
import { checkRouting } from './routing.ts'
import { checkUndiciOptions, invalidRequest } from './validate-request.ts'

/** A service as the interceptor sees it. */
export interface MountedService {
  readonly replayLimit: number
  keepsBody(method: string, routing: RequestRouting): boolean
  send(request: RequestInput, sink: ResponseSink): Exchange
}

type DispatchOptions = Dispatcher.DispatchOptions & RequestRouting

export function createInterceptor(
  find: (origin: string, path: string) => MountedService | undefined,
  ids: RequestIds,
  defaults: RequestRouting = {},
): Dispatcher.DispatcherComposeInterceptor {
  const failure = new FirstFailureReporter({
    what: 'onResponseError of a handler of the dispatcher',
    instead: 'its failure is ignored',
  })
  return (dispatch) => (options, handler) => {
    const origin = options?.origin ? originOf(options.origin) : ''
    const found =
      origin === '' ? undefined : find(origin, typeof options.path === 'string' ? options.path : '')
    // undici itself refuses what is not a handler.
    if (!found || typeof handler !== 'object' || handler === null) return dispatch(options, handler)
    const sink = new HandlerSink(handler, failure)
    try {
      sink.start(() => {
        checkHandler(options, handler)
        return found.send(
          buildInput(options as DispatchOptions, origin, found, ids, defaults),
          sink,
        )
      })
    } catch (error) {
      sink.onError(asError(error))
    }
    return true
  }
}

/** @throws ManyhostError for a handler that cannot take the tunnel: it would hold its slot for ever */
function checkHandler(
  { upgrade, method }: Dispatcher.DispatchOptions,
  handler: Dispatcher.DispatchHandler,
): void {
  if (!upgrade && method !== 'CONNECT') return
  if (typeof handler.onRequestUpgrade === 'function') return
  throw invalidRequest('upgrade: the handler has no onRequestUpgrade, which would get the tunnel')
}

/** A name in lower case, without a port or with a port that is no default: already what `URL.origin` would give. */
const PLAIN_ORIGIN = /^https?:\/\/[a-z0-9._-]*[a-z_-](?::(?!80$|443$)[1-9]\d{0,3})?$/

function originOf(origin: string | URL): string {
  if (typeof origin !== 'string') return origin.origin
  if (PLAIN_ORIGIN.test(origin)) return origin
  return URL.canParse(origin) ? new URL(origin).origin : origin
}

function buildInput(
  options: DispatchOptions,
  origin: string,
  found: MountedService,
  ids: RequestIds,
  defaults: RequestRouting,
): RequestInput {
  const { method, query } = options
  checkUndiciOptions(options)
  checkRouting(options)
  const routing: RequestRouting = {
    priority: options.priority ?? defaults.priority,
    affinity: options.affinity ?? defaults.affinity,
    resend: options.resend ?? defaults.resend,
    idempotencyKey: options.idempotencyKey ?? defaults.idempotencyKey,
    timeout: options.timeout ?? defaults.timeout,
  }
  const keep = found.keepsBody(method, routing)
  return buildRequestInput({
    method,
    path: query ? withQuery(options.path, query) : options.path,
    host: origin.slice(origin.indexOf('//') + 2),
    headers: options.headers ? flattenHeaders(options.headers as HeadersLike, 'empty') : [],
    body: prepareBody(options.body, { replayLimit: found.replayLimit, keep }),
    upgrade: options.upgrade ? (options.upgrade as string) : undefined,
    routing,
    connection: connectionOf(options),
    ids,
  })
}

function connectionOf({ headersTimeout, bodyTimeout, reset }: DispatchOptions) {
  if (headersTimeout == null && bodyTimeout == null && reset == null) return undefined
  return {
    headersTimeout: headersTimeout ?? null,
    bodyTimeout: bodyTimeout ?? null,
    reset: reset ?? null,
  }
}

/** As undici does it: by the rules of `node:querystring`, and only for a path without a query of its own. */
function withQuery(path: string, query: Record<string, unknown>): string {
  if (path.includes('?') || path.includes('#')) {
    throw invalidRequest(
      "query: give it in the path or as an option, not both; the path has a '?' or '#'",
    )
  }
  const text = stringify(query as Parameters<typeof stringify>[0])
  return text === '' ? path : `${path}?${text}`
}

/** Passes a response to an undici handler, and is the controller by which the handler steers the request. */
class HandlerSink implements ResponseSink, Dispatcher.DispatchController {
  readonly #handler: Dispatcher.DispatchHandler
  readonly #failure: FirstFailureReporter
  #exchange: Exchange | undefined
  #reason: Error | null = null
  #paused = false
  /** The handler gets no further call. */
  #isOver = false
  rawHeaders: Buffer[] | null = null
  rawTrailers: Buffer[] | null = null

  constructor(handler: Dispatcher.DispatchHandler, failure: FirstFailureReporter) {
    this.#handler = handler
    this.#failure = failure
  }

  /** The handler gets its controller before the request waits, so that it can abort a waiting request. */
  start(send: () => Exchange): void {
    this.#handler.onRequestStart?.(this, {})
    if (this.#reason) this.onError(this.#reason)
    else {
      const exchange = send()
      if (!exchange.settled) this.#exchange = exchange
      if (this.#paused) exchange.pause()
    }
  }

  get aborted(): boolean {
    return this.#reason !== null
  }

  get reason(): Error | null {
    return this.#reason
  }

  get paused(): boolean {
    return this.#paused
  }

  pause(): void {
    this.#paused = true
    this.#exchange?.pause()
  }

  resume(): void {
    this.#paused = false
    this.#exchange?.resume()
  }

  abort(reason: Error): void {
    if (this.#reason) return
    // As in undici, an abort may come without a reason.
    this.#reason = reason ?? new ManyhostError('MANYHOST_ABORTED', 'the request was aborted')
    this.#exchange?.cancel(this.#reason)
  }

  onInfo(status: number, headers: RawHeaders, text: string): void {
    this.onHead(status, headers, text)
  }

  onHead(status: number, headers: RawHeaders, text: string): void {
    this.rawHeaders = headers as Buffer[]
    this.#callHandler(() =>
      this.#handler.onResponseStart?.(this, status, toHeaderObject(headers), text),
    )
  }

  onData(chunk: Buffer): void {
    if (this.#isOver) return
    this.#callHandler(() => this.#handler.onResponseData?.(this, chunk))
  }

  onEnd(trailers: RawHeaders): void {
    if (this.#isOver) return
    this.rawTrailers = trailers as Buffer[]
    this.#callHandler(() => this.#handler.onResponseEnd?.(this, toHeaderObject(trailers)))
  }

  onUpgrade(status: number, headers: RawHeaders, socket: Duplex): void {
    this.rawHeaders = headers as Buffer[]
    this.#callHandler(() =>
      this.#handler.onRequestUpgrade?.(this, status, toHeaderObject(headers), socket),
    )
    // A handler that threw has not closed the socket, which would hold its slot.
    if (this.#isOver) socket.destroy()
  }

  onError(error: Error): void {
    this.#isOver = true
    this.#exchange = undefined
    // An error here must not reach the layers that end many requests in one loop; it is reported once.
    this.#failure.run(() => this.#handler.onResponseError?.(this, error))
  }

  /** A handler that throws cancels its request. As in undici, it is not `aborted` then, so that `retry` may go on. */
  #callHandler(call: () => void): void {
    try {
      call()
    } catch (thrown) {
      const error = asError(thrown)
      const exchange = this.#exchange
      if (exchange && !exchange.settled) exchange.cancel(error)
      else if (!this.#isOver) this.onError(error)
    }
  }
}

/** Headers as undici gives them to handlers: names in lower case, repeated ones as an array. */
function toHeaderObject(headers: RawHeaders): IncomingHttpHeaders {
  const object = createFields<string | string[]>()
  for (const [name, value] of rawPairs(headers)) {
    const key = name.toLowerCase()
    const before = object[key]
    if (before === undefined) object[key] = value
    else if (Array.isArray(before)) before.push(value)
    else object[key] = [before, value]
  }
  return object
}
