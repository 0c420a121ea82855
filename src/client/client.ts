/** The client of a session: sends requests to virtual URLs and to all other URLs. */
import type { Dispatcher } from 'undici'
import type { Cluster } from '../cluster/cluster.ts'
import { describe } from '../core/describe.ts'
import { createWithoutStack, describeError, ManyhostError } from '../core/errors.ts'
import type { ServiceRegistry } from '../core/registry.ts'
import { type PreparedBody, prepareBody } from '../dispatch/body.ts'
import { Replay } from '../dispatch/replay.ts'
import {
  buildNetworkInput,
  buildRequestInput,
  type HeadersLike,
  type RequestIds,
  type RequestRouting,
} from '../dispatch/request-input.ts'
import { mayRepeat } from '../dispatch/verdict.ts'
import { sendToNetwork } from './network-request.ts'
import { checkRequestOptions } from './options.ts'
import { discardBody, nextRedirect, type RedirectedRequest } from './redirect.ts'
import {
  checkSendableHeaders,
  flattenCheckedHeaders,
  optionsOfFetch,
  parseHttpMethod,
  parseTargetUrl,
  type QueryLike,
  type RequestOptions,
} from './request.ts'
import { Response } from './response.ts'
import { type ResponseControl, ResponseReader } from './response-reader.ts'

export interface ClientParts {
  readonly registry: ServiceRegistry<Cluster>
  readonly network: Dispatcher
  readonly ids: RequestIds
  /** Why no request is accepted any more; undefined if requests are accepted. */
  refusal(): ManyhostError | undefined
}

export interface ClientOptions extends RequestRouting {
  /** Sent with every request; a request's own header of the same name replaces it. */
  readonly headers?: HeadersLike
  /** The URL to which relative URLs are relative. */
  readonly baseUrl?: string | URL
  /** @default 'follow' */
  readonly redirect?: 'follow' | 'manual' | 'error'
  /** @default 20 */
  readonly maxRedirects?: number
}

const NO_OPTIONS: RequestOptions = {}

/** A call of `request` that is under way, over its redirects. */
interface ClientCall {
  readonly options: RequestOptions
  readonly method: string
  readonly url: string
  readonly headers: string[]
  readonly body: unknown
  readonly redirects: number
}

export class Client implements AsyncDisposable {
  readonly #parts: ClientParts
  readonly #options: ClientOptions
  readonly #headers: readonly string[]
  #closed = false

  constructor(parts: ClientParts, options: ClientOptions) {
    this.#parts = parts
    this.#options = options
    this.#headers = options.headers ? checkSendableHeaders(options.headers) : []
  }

  get(url: string | URL, options?: RequestOptions): Promise<Response> {
    return this.request('GET', url, options)
  }

  head(url: string | URL, options?: RequestOptions): Promise<Response> {
    return this.request('HEAD', url, options)
  }

  post(url: string | URL, options?: RequestOptions): Promise<Response> {
    return this.request('POST', url, options)
  }

  put(url: string | URL, options?: RequestOptions): Promise<Response> {
    return this.request('PUT', url, options)
  }

  patch(url: string | URL, options?: RequestOptions): Promise<Response> {
    return this.request('PATCH', url, options)
  }

  delete(url: string | URL, options?: RequestOptions): Promise<Response> {
    return this.request('DELETE', url, options)
  }

  options(url: string | URL, options?: RequestOptions): Promise<Response> {
    return this.request('OPTIONS', url, options)
  }

  /** As the global `fetch`, with this client's routing. Takes a `Request`, too. */
  async fetch(input: string | URL | Request, init: RequestInit = {}): Promise<Response> {
    const { method, url, options } = await optionsOfFetch(input, init)
    return this.request(method, url, options)
  }

  /**
   * Sends a request. Resolves when the head of the response is there, whatever its status is.
   * @throws ManyhostError see README's table of errors
   */
  request(
    method: string,
    url: string | URL,
    options: RequestOptions = NO_OPTIONS,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      if (this.#closed) {
        throw new ManyhostError('MANYHOST_SESSION_CLOSED', 'the client is closed')
      }
      const verb = parseHttpMethod(method)
      if (options !== NO_OPTIONS) checkRequestOptions(verb, options)
      const { body, headers } = this.#prepareContent(options)
      const call: ClientCall = {
        options,
        method: verb,
        url: this.#resolve(url, options.query),
        headers,
        body,
        redirects: 0,
      }
      this.#send(call, resolve, reject)
    })
  }

  #resolve(url: string | URL, query: QueryLike | undefined): string {
    const { baseUrl } = this.#options
    let text = typeof url === 'string' ? url : String(url)
    // `parseTargetUrl` refuses a text that cannot be resolved.
    if (baseUrl !== undefined && URL.canParse(text, String(baseUrl))) {
      text = new URL(text, baseUrl).href
    }
    return query === undefined ? text : withQuery(text, query)
  }

  /** Body and headers of a request: `json`, `form` and `body` exclude each other. */
  #prepareContent({ json, form, body, headers }: RequestOptions): {
    body: unknown
    headers: string[]
  } {
    const given =
      Number(json !== undefined) + Number(form !== undefined) + Number(body !== undefined)
    if (given > 1) {
      throw new ManyhostError(
        'MANYHOST_INVALID_OPTION',
        'json, form and body exclude each other; give one of them',
      )
    }
    const flat = this.#mergedHeaders(headers)
    if (json !== undefined) {
      const typed = hasHeader(flat, 'content-type')
        ? flat
        : [...flat, 'content-type', 'application/json']
      return { body: stringifyJson(json), headers: typed }
    }
    if (form === undefined) return { body, headers: flat }
    const isEncoded = form instanceof FormData || form instanceof URLSearchParams
    return {
      body: isEncoded
        ? form
        : new URLSearchParams(toPairs('form', form as Record<string, unknown>)),
      headers: flat,
    }
  }

  #mergedHeaders(given: HeadersLike | undefined): string[] {
    if (given === undefined) return this.#headers.length === 0 ? NO_HEADERS : this.#headers.slice()
    const own = flattenCheckedHeaders(given)
    const merged: string[] = []
    for (let index = 0; index < this.#headers.length; index += 2) {
      const name = this.#headers[index] as string
      if (!hasHeader(own, name.toLowerCase())) merged.push(name, this.#headers[index + 1] as string)
    }
    merged.push(...own)
    return merged
  }

  #send(
    call: ClientCall,
    resolve: (response: Response) => void,
    reject: (error: Error) => void,
  ): void {
    const { origin, host, path } = parseTargetUrl(call.url)
    const refusal = this.#parts.refusal()
    if (refusal) throw refusal
    const { options } = call
    const { signal } = options
    if (signal?.aborted) throw abortError(signal)
    const cluster = this.#parts.registry.match(origin, path)
    const routing = this.#routing(options)
    const body = this.#prepareBody(call, cluster, routing)
    const parts = { method: call.method, path, host, headers: call.headers.slice(), body, routing }
    const input = cluster
      ? buildRequestInput({ ...parts, ids: this.#parts.ids })
      : buildNetworkInput(parts)
    const reader = new ResponseReader(
      (done) => this.#onHead(done, call, body, resolve, reject),
      reject,
    )
    const control: ResponseControl = cluster
      ? cluster.send(input, reader)
      : sendToNetwork(this.#parts.network, origin, input, reader)
    reader.control = control
    if (cluster) reader.exchange = control as NonNullable<ResponseReader['exchange']>
    if (signal && !reader.ended) reader.onDone = cancelOnAbort(signal, control)
  }

  #routing(options: RequestOptions): RequestRouting {
    const mine = this.#options
    if (options === NO_OPTIONS) return mine
    return {
      priority: options.priority ?? mine.priority,
      affinity: options.affinity ?? mine.affinity,
      resend: options.resend ?? mine.resend,
      timeout: options.timeout ?? mine.timeout,
      idempotencyKey: options.idempotencyKey ?? mine.idempotencyKey,
    }
  }

  #prepareBody(
    call: ClientCall,
    cluster: Cluster | undefined,
    routing: RequestRouting,
  ): PreparedBody {
    const { body, method } = call
    if (body instanceof Replay) return { body, contentType: undefined }
    if (body === undefined || typeof body === 'string')
      return { body: body ?? null, contentType: undefined }
    const dispatch = cluster?.settings.dispatch
    const keep =
      dispatch !== undefined &&
      mayRepeat(routing.resend ?? dispatch.resend, method, routing.idempotencyKey !== undefined)
    return prepareBody(body, { replayLimit: dispatch?.replayLimit ?? 0, keep })
  }

  #onHead(
    reader: ResponseReader,
    call: ClientCall,
    body: PreparedBody,
    resolve: (response: Response) => void,
    reject: (error: Error) => void,
  ): void {
    const { options } = call
    const redirect = options.redirect ?? this.#options.redirect ?? 'follow'
    const isRedirect = reader.status >= 300 && reader.status < 400
    if (!isRedirect || redirect === 'manual') {
      resolve(new Response(reader, call.url, call.redirects > 0))
      return
    }
    let hop: RedirectedRequest | undefined
    try {
      hop = nextRedirect(reader, call, {
        mode: redirect,
        limit: options.maxRedirects ?? this.#options.maxRedirects ?? 20,
        body,
      })
    } catch (error) {
      discardBody(reader)
      return reject(error as Error)
    }
    if (!hop) return resolve(new Response(reader, call.url, call.redirects > 0))
    discardBody(reader)
    try {
      this.#send({ ...call, ...hop, redirects: call.redirects + 1 }, resolve, reject)
    } catch (error) {
      reject(error as Error)
    }
  }

  /** Refuses new requests. Requests that are under way go on. */
  async close(): Promise<void> {
    this.#closed = true
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/** Appends parameters to the query of a URL, which is left as it was written. */
function withQuery(url: string, query: QueryLike): string {
  const pairs =
    query instanceof URLSearchParams ? query : toPairs('query', query as Record<string, unknown>)
  const added = new URLSearchParams()
  for (const [name, value] of pairs) added.append(name, value)
  if (added.size === 0) return url
  const hash = url.indexOf('#')
  const base = hash < 0 ? url : url.slice(0, hash)
  const rest = hash < 0 ? '' : url.slice(hash)
  const joint = base.includes('?') ? (/[?&]$/.test(base) ? '' : '&') : '?'
  return `${base}${joint}${added}${rest}`
}

/** Shared by all requests without headers. Must not be changed. */
const NO_HEADERS: string[] = []

function hasHeader(flat: readonly string[], lowerCaseName: string): boolean {
  for (let index = 0; index < flat.length; index += 2) {
    if ((flat[index] as string).toLowerCase() === lowerCaseName) return true
  }
  return false
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
function toPairs(
  where: string,
  given: Record<string, unknown> | readonly (readonly [string, unknown])[],
): [string, string][] {
  const pairs: [string, string][] = []
  for (const [name, value] of Array.isArray(given) ? given : Object.entries(given)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null) pairs.push([name, parameterToText(where, name, one)])
    }
  }
  return pairs
}

/** The text of a value. `[object Object]` is refused. */
function parameterToText(where: string, name: string, value: object | string | number): string {
  if (typeof value === 'string' || typeof value === 'number') return String(value)
  if (typeof value === 'object') {
    if (typeof value.toString === 'function' && value.toString !== Object.prototype.toString) {
      return String(value)
    }
  } else if (typeof value === 'boolean' || typeof value === 'bigint') return String(value)
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `${where}: ${JSON.stringify(name)} must be a text, a number, true, false or an array of them, got ${describe(value)}`,
  )
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
function stringifyJson(json: unknown): string {
  let text: string | undefined
  try {
    text = JSON.stringify(json)
  } catch (cause) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `json: it cannot be written as JSON: ${describeError(cause)}`,
      { cause },
    )
  }
  if (text !== undefined) return text
  throw new ManyhostError('MANYHOST_INVALID_OPTION', `json: JSON has no ${typeof json}`)
}

/** Cancels the request when the signal is aborted. @returns a function that removes the listener */
function cancelOnAbort(signal: AbortSignal, control: ResponseControl): () => void {
  let fired = false
  const onAbort = (): void => {
    fired = true
    control.cancel(abortError(signal))
  }
  // A function of the user that was called meanwhile, such as `fairness`, may have aborted the signal already.
  if (signal.aborted) onAbort()
  else signal.addEventListener('abort', onAbort, { once: true })
  return () => {
    // A listener that has fired is removed already. Searching for it would cost time with each other listener of the signal.
    if (!fired) signal.removeEventListener('abort', onAbort)
  }
}

function abortError(signal: AbortSignal): ManyhostError {
  const { reason } = signal
  // The reason of AbortSignal.timeout() is named TimeoutError, and callers tell the two errors apart by name.
  const code = isTimeoutReason(reason) ? 'MANYHOST_TIMEOUT' : 'MANYHOST_ABORTED'
  const make = (): ManyhostError =>
    new ManyhostError(code, `the caller gave the request up: ${describeError(reason)}`, {
      cause: reason,
    })
  // The reason has a stack already. A second stack would be most of the cost.
  return reason instanceof Error ? createWithoutStack(make) : make()
}

/** A reason may be any value, also an object whose getters throw. */
function isTimeoutReason(reason: unknown): boolean {
  try {
    return (reason as { name?: unknown } | null | undefined)?.name === 'TimeoutError'
  } catch {
    return false
  }
}
