/** Ids and pages: from what a path and a query say to what there is. */
import type { Ask } from './api.ts'
import type { Reply } from './envelope.ts'
import { type Refusal, refuse } from './json.ts'
import type { Service } from './service.ts'

const CANONICAL = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const UUID = /^[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}$/i
const DEFAULT_PAGE = 100
const LONGEST_PAGE = 1_000

/** In the one way in which we write them. @throws Refusal 404 */
export function uuid(text: string): string {
  if (CANONICAL.test(text)) return text
  if (UUID.test(text)) {
    return text
      .toLowerCase()
      .replaceAll('-', '')
      .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
  }
  throw refuse(
    404,
    'Not UUID Error',
    `The string ${text.slice(0, 100)} could not be converted to a UUID`,
  )
}

/** The service that the path names, if the caller may. @throws Refusal 401, 404 */
export function serviceOf({ ids, hub, access, request }: Ask): Service {
  const id = uuid(ids[0] ?? '')
  const service = hub.services.get(id)
  // Who has no token at all learns nothing of what there is.
  if (!service) {
    access.any(request)
    throw refuse(404, 'Service Not Found', `A service with id ${id} was not found`)
  }
  access.service(request, service)
  return service
}

export function noJob(id: string): Refusal {
  return refuse(404, 'Job Not Found', `A job with id ${id} was not found`)
}

/** `?limit=100&after=<id>`. @throws Refusal 400 */
export function pageOf({ query }: Ask): { limit: number; after: string | undefined } {
  const limit = Number(query.get('limit') ?? DEFAULT_PAGE)
  if (!Number.isInteger(limit) || limit < 1 || limit > LONGEST_PAGE) {
    throw refuse(400, 'Bad Page', `limit must be a whole number from 1 to ${LONGEST_PAGE}`)
  }
  const after = query.get('after')
  return { limit, after: after === null ? undefined : uuid(after) }
}

/** @param page of a list: after which one the next one begins */
export function withLinks(
  self: string,
  data: unknown,
  meta: object = {},
  page?: { readonly limit: number; readonly next: string | undefined },
): Reply {
  const next = page?.next && `${self}?limit=${page.limit}&after=${page.next}`
  return {
    status: 200,
    body: { data, meta, links: { self, ...(next && { next }) } },
    ...(next && { headers: { link: `<${next}>; rel="next"` } }),
  }
}
