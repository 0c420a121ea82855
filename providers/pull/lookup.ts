/** Finds what the path and the query of a call name: ids, services and pages. */
import type { PullApiReply } from './envelope.ts'
import { createRefusal, type Refusal } from './json.ts'
import type { PullService } from './pull-service.ts'
import type { PullApiCall } from './route.ts'
import { CANONICAL_UUID } from './service-id.ts'

/** As Python's `uuid.UUID` reads it, which the original uses: in any case, with or without hyphens. */
const LENIENT_UUID = /^[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}$/i
const DEFAULT_PAGE = 100
const MAX_PAGE = 1_000

/** In the canonical form, in which ids are stored. @throws Refusal 404 */
export function parseUuid(text: string): string {
  if (CANONICAL_UUID.test(text)) return text
  if (LENIENT_UUID.test(text)) {
    return text
      .toLowerCase()
      .replaceAll('-', '')
      .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
  }
  throw createRefusal(
    404,
    'Not UUID Error',
    `The string ${text.slice(0, 100)} could not be converted to a UUID`,
  )
}

/** The service that the path names, if the caller has access to it. @throws Refusal 401, 404 */
export function findService({ pathIds, hub, access, request }: PullApiCall): PullService {
  const id = parseUuid(pathIds[0] ?? '')
  const service = hub.services.get(id)
  if (!service) {
    // A caller without the hub's token must not learn which services there are.
    access.requireHubAccess(request)
    throw createRefusal(404, 'Service Not Found', `A service with id ${id} was not found`)
  }
  access.requireServiceAccess(request, service)
  return service
}

export function createJobNotFound(id: string): Refusal {
  return createRefusal(404, 'Job Not Found', `A job with id ${id} was not found`)
}

/** `?limit=100&after=<id>`. @throws Refusal 400 */
export function parsePage({ query }: PullApiCall): { limit: number; after: string | undefined } {
  const limit = Number(query.get('limit') ?? DEFAULT_PAGE)
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_PAGE) {
    throw createRefusal(400, 'Bad Page', `limit must be a whole number from 1 to ${MAX_PAGE}`)
  }
  const after = query.get('after')
  return { limit, after: after === null ? undefined : parseUuid(after) }
}

/** @param page of a list: its `next` is the id after which the next page begins */
export function createLinkedReply(
  self: string,
  data: unknown,
  meta: object = {},
  page?: { readonly limit: number; readonly next: string | undefined },
): PullApiReply {
  const next = page?.next && `${self}?limit=${page.limit}&after=${page.next}`
  return {
    status: 200,
    body: { data, meta, links: { self, ...(next && { next }) } },
    ...(next && { headers: { link: `<${next}>; rel="next"` } }),
  }
}
