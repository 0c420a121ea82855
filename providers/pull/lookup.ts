/** Ids and pages: from what a path and a query say to what there is. */
import type { PullApiRequest } from './api.ts'
import type { PullApiReply } from './envelope.ts'
import { createRefusal, type Refusal } from './json.ts'
import type { PullService } from './pull-service.ts'

const CANONICAL = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const UUID = /^[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}$/i
const DEFAULT_PAGE = 100
const MAX_PAGE = 1_000

/** In the one way in which we write them. @throws Refusal 404 */
export function parseUuid(text: string): string {
  if (CANONICAL.test(text)) return text
  if (UUID.test(text)) {
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

/** The service that the path names, if the caller may. @throws Refusal 401, 404 */
export function findService({ pathIds: ids, hub, access, request }: PullApiRequest): PullService {
  const id = parseUuid(ids[0] ?? '')
  const service = hub.services.get(id)
  // Who has no token at all learns nothing of what there is.
  if (!service) {
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
export function parsePage({ query }: PullApiRequest): { limit: number; after: string | undefined } {
  const limit = Number(query.get('limit') ?? DEFAULT_PAGE)
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_PAGE) {
    throw createRefusal(400, 'Bad Page', `limit must be a whole number from 1 to ${MAX_PAGE}`)
  }
  const after = query.get('after')
  return { limit, after: after === null ? undefined : parseUuid(after) }
}

/** @param page of a list: after which one the next one begins */
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
