/** An HTTP server that is a table of routes behind one token. Errors are answered as problem details. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { describeError } from '../errors.ts'
import { admitBearer, type BearerRule } from './bearer.ts'
import { createProblem, problemOfThrown, sendProblem } from './problem.ts'
import { type RoutePattern, Router } from './router.ts'

export interface RouteCall {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** Values of the path's segments in braces. */
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
}

export interface HttpRoute extends RoutePattern {
  /** Whether a caller needs no token. @default false */
  readonly isPublic?: boolean
  /** Answers the request. What it throws is answered as a problem. */
  handle(call: RouteCall): void | Promise<void>
}

/** Never throws. A caller without the token does not learn which paths exist. */
export function createRouteHandler(
  routes: readonly HttpRoute[],
  bearer: BearerRule,
): (request: IncomingMessage, response: ServerResponse) => void {
  const router = new Router(routes)
  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams: query } = new URL(request.url ?? '/', 'http://local')
    const matches = router.match(pathname) ?? []
    const found = matches.find(({ route }) => route.method === request.method)
    if (!found?.route.isPublic && !admitBearer(request, response, bearer)) return
    if (found) return found.route.handle({ request, response, params: found.params, query })
    const detail = `there is no ${request.method} ${pathname}`
    if (matches.length === 0) return sendProblem(response, createProblem(404, detail))
    const allow = matches.map(({ route }) => route.method).join(', ')
    sendProblem(response, createProblem(405, `${detail}: use ${allow}`), { allow })
  }
  return (request, response) => {
    // Callers have the token, or may run commands without one: the text of an error hides nothing from them.
    handle(request, response).catch((error: unknown) =>
      sendProblem(response, problemOfThrown(error, describeError(error))),
    )
  }
}
