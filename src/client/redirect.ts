/** The next request after a redirect (WHATWG Fetch, "HTTP-redirect fetch"). */

import type { Dispatcher } from 'undici'
import { ManyhostError } from '../core/errors.ts'
import type { PreparedBody } from '../dispatch/body.ts'
import { BodyDrain } from '../dispatch/body-drain.ts'
import type { RawHeaders } from '../dispatch/exchange.ts'
import { rawHeader } from '../dispatch/raw-headers.ts'
import type { ResponseReader } from './response-reader.ts'

export interface RedirectedRequest {
  readonly method: string
  readonly url: string
  /** Names and values in turn. */
  readonly headers: string[]
  readonly body: unknown
}

const REDIRECT_STATUSES: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])
const CONTENT_HEADERS = new Set([
  'content-type',
  'content-length',
  'content-encoding',
  'content-language',
])
/** These are meant for the origin that the caller named, and must not go to another one. */
const CREDENTIAL_HEADERS = new Set(['authorization', 'cookie', 'proxy-authorization', 'host'])

/**
 * The next request; undefined if the response is no redirect, and goes to the caller as it is.
 * @throws ManyhostError MANYHOST_REDIRECT
 */
export function nextRedirect(
  { status, headers }: { readonly status: number; readonly headers: RawHeaders },
  call: RedirectedRequest & { readonly redirects: number },
  { mode, limit, body }: { mode: 'follow' | 'error'; limit: number; body: PreparedBody },
): RedirectedRequest | undefined {
  const location = rawHeader(headers, 'location')
  if (location === undefined || !REDIRECT_STATUSES.has(status)) return undefined
  if (mode === 'error')
    throw redirectError(call.url, `redirects to ${location}, and redirect is 'error'`)
  if (call.redirects >= limit)
    throw redirectError(call.url, `is one of more than ${limit} redirects`)
  const url = resolveLocation(location, call.url)
  const toGet =
    (status === 303 && call.method !== 'HEAD') || (status < 303 && call.method === 'POST')
  const leaves = new URL(call.url).origin !== url.origin
  const kept: string[] = []
  for (let index = 0; index < call.headers.length; index += 2) {
    const name = (call.headers[index] as string).toLowerCase()
    if ((toGet && CONTENT_HEADERS.has(name)) || (leaves && CREDENTIAL_HEADERS.has(name))) continue
    kept.push(call.headers[index] as string, call.headers[index + 1] as string)
  }
  if (toGet) return { method: 'GET', url: url.href, headers: kept, body: undefined }
  if (isConsumed(call.body, body)) {
    throw redirectError(
      call.url,
      `redirects with ${status}, and its body was a stream that is used up`,
    )
  }
  return { method: call.method, url: url.href, headers: kept, body: call.body }
}

/**
 * Reads the body of a redirect and drops it, so that its slot becomes free. A body that is long or does not end is cut off, and
 * its connection with it.
 */
export function discardBody(reader: ResponseReader): void {
  const drain = new BodyDrain(() => reader.control?.cancel(longBodyError()))
  const stop = (): void => drain.stop()
  reader.read({ data: (chunk) => drain.count(chunk.length), end: stop, error: stop })
  if (!reader.ended && !reader.whole) drain.start()
}

/**
 * The same for `fetch`, which does not read the body of a redirect that it follows. For its handler, a redirect ends with the
 * head.
 */
export const discardRedirectBodies: Dispatcher.DispatcherComposeInterceptor =
  (dispatch) => (options, handler) =>
    dispatch(options, new RedirectHeadHandler(handler))

class RedirectHeadHandler implements Dispatcher.DispatchHandler {
  readonly #handler: Dispatcher.DispatchHandler
  /** Set while the body of a redirect is dropped. The handler has got its head. */
  #drain: BodyDrain | undefined

  constructor(handler: Dispatcher.DispatchHandler) {
    this.#handler = handler
  }

  onRequestStart(...given: Parameters<Required<Dispatcher.DispatchHandler>['onRequestStart']>) {
    this.#handler.onRequestStart?.(...given)
  }

  onRequestUpgrade(...given: Parameters<Required<Dispatcher.DispatchHandler>['onRequestUpgrade']>) {
    this.#handler.onRequestUpgrade?.(...given)
  }

  onResponseStart(
    ...given: Parameters<Required<Dispatcher.DispatchHandler>['onResponseStart']>
  ): void {
    const [controller, status, headers] = given
    const isRedirect = REDIRECT_STATUSES.has(status) && headers.location !== undefined
    this.#handler.onResponseStart?.(...given)
    if (!isRedirect) return
    this.#drain = new BodyDrain(() => controller.abort(longBodyError()))
    this.#drain.start()
    this.#handler.onResponseEnd?.(controller, {})
    if (controller.paused) controller.resume()
  }

  onResponseData(...given: Parameters<Required<Dispatcher.DispatchHandler>['onResponseData']>) {
    if (this.#drain) this.#drain.count(given[1].length)
    else this.#handler.onResponseData?.(...given)
  }

  onResponseEnd(...given: Parameters<Required<Dispatcher.DispatchHandler>['onResponseEnd']>) {
    if (this.#drain) this.#drain.stop()
    else this.#handler.onResponseEnd?.(...given)
  }

  onResponseError(...given: Parameters<Required<Dispatcher.DispatchHandler>['onResponseError']>) {
    if (this.#drain) this.#drain.stop()
    else this.#handler.onResponseError?.(...given)
  }
}

function longBodyError(): ManyhostError {
  return new ManyhostError('MANYHOST_ABORTED', 'a redirect with a long body')
}

/** Whether a body cannot be sent again. A stream is read once; text, bytes, forms and functions can be sent again. */
function isConsumed(given: unknown, { body }: PreparedBody): boolean {
  if (body === null || typeof body === 'string' || body instanceof Uint8Array) return false
  return !(typeof given === 'function' || given instanceof Blob || given instanceof FormData)
}

function resolveLocation(location: string, base: string): URL {
  let url: URL
  try {
    // Header fields are read as latin1, but servers send a Location in UTF-8.
    url = new URL(Buffer.from(location, 'latin1').toString('utf8'), base)
  } catch {
    throw redirectError(base, `redirects to ${JSON.stringify(location)}, which is not a URL`)
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw redirectError(base, `redirects to ${url.href}, which is neither http nor https`)
  }
  if (url.hash === '') url.hash = new URL(base).hash
  return url
}

function redirectError(url: string, what: string): ManyhostError {
  return new ManyhostError('MANYHOST_REDIRECT', `${url} ${what}`)
}
