/** Where a redirect leads, and what of the request goes along (WHATWG Fetch, "HTTP-redirect fetch"). */

import type { Dispatcher } from 'undici'
import { ManyhostError } from '../core/errors.ts'
import type { PreparedBody } from '../dispatch/body.ts'
import { BodyDrain } from '../dispatch/drain.ts'
import type { RawHeaders } from '../dispatch/exchange.ts'
import { rawHeader } from '../dispatch/raw.ts'
import type { Intake } from './response-reader.ts'

export interface Hop {
  readonly method: string
  readonly url: string
  /** Names and values in turn. */
  readonly headers: string[]
  readonly body: unknown
}

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])
const CONTENT = new Set(['content-type', 'content-length', 'content-encoding', 'content-language'])
/** Meant for the origin that the caller named, nobody else. */
const CREDENTIALS = new Set(['authorization', 'cookie', 'proxy-authorization', 'host'])

/**
 * The next request, or undefined where the answer is to be handed over as it is.
 * @throws ManyhostError MANYHOST_REDIRECT
 */
export function nextHop(
  { status, headers }: { readonly status: number; readonly headers: RawHeaders },
  call: Hop & { readonly redirects: number },
  { mode, limit, body }: { mode: 'follow' | 'error'; limit: number; body: PreparedBody },
): Hop | undefined {
  const location = rawHeader(headers, 'location')
  if (location === undefined || !REDIRECTS.has(status)) return undefined
  if (mode === 'error') throw refused(call.url, `redirects to ${location}, and redirect is 'error'`)
  if (call.redirects >= limit) throw refused(call.url, `is one of more than ${limit} redirects`)
  const url = target(location, call.url)
  const toGet =
    (status === 303 && call.method !== 'HEAD') || (status < 303 && call.method === 'POST')
  const leaves = new URL(call.url).origin !== url.origin
  const kept: string[] = []
  for (let index = 0; index < call.headers.length; index += 2) {
    const name = (call.headers[index] as string).toLowerCase()
    if ((toGet && CONTENT.has(name)) || (leaves && CREDENTIALS.has(name))) continue
    kept.push(call.headers[index] as string, call.headers[index + 1] as string)
  }
  if (toGet) return { method: 'GET', url: url.href, headers: kept, body: undefined }
  if (isConsumed(call.body, body)) {
    throw refused(call.url, `redirects with ${status}, and its body was a stream that is used up`)
  }
  return { method: call.method, url: url.href, headers: kept, body: call.body }
}

/**
 * Lets the body of a redirect pass, which is for nobody, so that its slot comes back. One that is long or does not end is cut
 * off, and its connection with it.
 */
export function dropBody(intake: Intake): void {
  const drain = new BodyDrain(() => intake.flow?.cancel(longBody()))
  const stop = (): void => drain.stop()
  intake.read({ data: (chunk) => drain.take(chunk.length), end: stop, error: stop })
  if (!intake.ended && !intake.whole) drain.start()
}

/**
 * The same for `fetch`, which leaves the body of a redirect that it follows unread: to its handler, a redirect ends with its
 * head.
 */
export const withoutRedirectBodies: Dispatcher.DispatcherComposeInterceptor =
  (dispatch) => (options, handler) =>
    dispatch(options, new HeadOfRedirect(handler))

class HeadOfRedirect implements Dispatcher.DispatchHandler {
  readonly #handler: Dispatcher.DispatchHandler
  /** Of the body of a redirect, whose head the handler has. */
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
    const isRedirect = REDIRECTS.has(status) && headers.location !== undefined
    this.#handler.onResponseStart?.(...given)
    if (!isRedirect) return
    this.#drain = new BodyDrain(() => controller.abort(longBody()))
    this.#drain.start()
    this.#handler.onResponseEnd?.(controller, {})
    if (controller.paused) controller.resume()
  }

  onResponseData(...given: Parameters<Required<Dispatcher.DispatchHandler>['onResponseData']>) {
    if (this.#drain) this.#drain.take(given[1].length)
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

function longBody(): ManyhostError {
  return new ManyhostError('MANYHOST_ABORTED', 'a redirect with a long body')
}

/** Streams are read once; text, bytes, forms and functions can be sent as often as need be. */
function isConsumed(given: unknown, { body }: PreparedBody): boolean {
  if (body === null || typeof body === 'string' || body instanceof Uint8Array) return false
  return !(typeof given === 'function' || given instanceof Blob || given instanceof FormData)
}

function target(location: string, base: string): URL {
  let url: URL
  try {
    // The bytes of a header are latin1 to us; those of a Location are UTF-8 by practice.
    url = new URL(Buffer.from(location, 'latin1').toString('utf8'), base)
  } catch {
    throw refused(base, `redirects to ${JSON.stringify(location)}, which is no URL`)
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw refused(base, `redirects to ${url.href}, which is neither http nor https`)
  }
  if (url.hash === '') url.hash = new URL(base).hash
  return url
}

function refused(url: string, what: string): ManyhostError {
  return new ManyhostError('MANYHOST_REDIRECT', `${url} ${what}`)
}
