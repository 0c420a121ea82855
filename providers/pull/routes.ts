/** What each path and method does. */
import { randomUUID } from 'node:crypto'
import { wallClock } from '../../src/core/time.ts'
import { digestToken } from './access.ts'
import type { PullRoute } from './api.ts'
import { claimNext, parseCaller } from './claim-route.ts'
import {
  type PullApiReply,
  toJobBody,
  toJobSummary,
  toJobView,
  toServiceBody,
  toServiceSummary,
} from './envelope.ts'
import { cancelJob, getJob, nextJob, patchJob } from './job-routes.ts'
import { createNotJson, createRefusal } from './json.ts'
import { createLinkedReply, findService, parsePage } from './lookup.ts'
import { META, toJobsMeta } from './meta.ts'
import {
  parseNewService,
  parseParameters,
  parseServicePatch,
  parseValidatorRequest,
} from './request-fields.ts'
import { validateBySchema } from './schema-checks.ts'

interface PullRouteEntry {
  readonly pattern: readonly string[]
  readonly methods: Readonly<Record<string, PullRoute>>
}

/** A service's own timeout, in seconds, where it says none. */
const DEFAULT_TIMEOUT_SECONDS = 30
/** As many as the original shows. */
const MAX_SHOWN_JOBS = 10

const getAbout: PullRoute = ({ baseUrl: base, options, access, request }) => {
  access.requireHubAccess(request)
  return createLinkedReply(`${base}/`, options.about, META.about)
}

const listServices: PullRoute = (ask) => {
  ask.access.requireHubAccess(ask.request)
  const { limit, after } = parsePage(ask)
  const all = [...ask.hub.services.values()].sort((a, b) => (a.row.id < b.row.id ? -1 : 1))
  const rest = after ? all.filter(({ row }) => row.id > after) : all
  const page = rest.slice(0, limit)
  const next = rest.length > limit ? page.at(-1)?.row.id : undefined
  return createLinkedReply(`${ask.baseUrl}/services`, page.map(toServiceSummary), META.services, {
    limit,
    next,
  })
}

const createService: PullRoute = async ({
  hub,
  baseUrl: base,
  readJson: body,
  access,
  request,
}) => {
  access.requireHubAccess(request)
  const self = `${base}/services`
  const given = await parseNewService((await body())?.value)
  const service = await hub.registerService({
    id: randomUUID(),
    name: given.name,
    description: given.description,
    timeout: (given.timeout ?? DEFAULT_TIMEOUT_SECONDS) * 1_000,
    registration: JSON.stringify(given.job_registration_schema),
    result: JSON.stringify(given.job_result_schema),
    token: given.token === undefined ? undefined : digestToken(given.token),
  })
  return {
    status: 201,
    headers: { location: `${base}/services/${service.row.id}` },
    body: { data: { message: 'service successfully created' }, meta: {}, links: { self } },
  }
}

const getService: PullRoute = (ask) => {
  const service = findService(ask)
  const jobs = ask.hub.store
    .jobs({ service: service.row.id, after: 0, limit: 100 })
    .map(toJobSummary)
  const self = `${ask.baseUrl}/services/${service.row.id}`
  return createLinkedReply(self, toServiceBody(service, jobs), META.service)
}

const patchService: PullRoute = async (ask) => {
  const service = findService(ask)
  const parsed = await ask.readJson()
  if (!parsed) {
    const { worker } = parseCaller(ask.request)
    ask.hub.claims.checkIn(service, worker)
    return {
      status: 200,
      body: { meta: `Service checked in at ${new Date(wallClock()).toISOString()}` },
    }
  }
  const patch = parseServicePatch(parsed.value)
  const { row } = service
  const before = { ...row }
  ask.hub.claims.checkIn(service, undefined)
  Object.assign(row, {
    name: patch.name ?? row.name,
    description: patch.description ?? row.description,
    timeout: patch.timeout === undefined ? row.timeout : patch.timeout * 1_000,
    available: patch.is_available ?? row.available,
  })
  await ask.hub.saveService(service, before)
  return getService(ask)
}

const getQueue: PullRoute = (ask) => {
  const service = findService(ask)
  const jobs = service.queue.peek(MAX_SHOWN_JOBS)
  if (jobs.length === 0) return { status: 204 }
  const shown = jobs.map((job) => toJobBody(toJobView(job, ask.hub.claims.readParameters(job))))
  return createLinkedReply(`${ask.baseUrl}/services/${service.row.id}/queue`, shown, META.queue)
}

const listServiceJobs: PullRoute = (ask) => {
  const service = findService(ask)
  const { id } = service.row
  const { limit, after } = parsePage(ask)
  const from = after === undefined ? 0 : (ask.hub.store.job(after)?.seq ?? 0)
  const rows = ask.hub.store.jobs({ service: id, after: from, limit: limit + 1 })
  const page = rows.slice(0, limit)
  const shown = page.flatMap(({ id }) => {
    const row = ask.hub.store.job(id)
    return row ? [toJobBody(row)] : []
  })
  const next = rows.length > limit ? page.at(-1)?.id : undefined
  const meta = toJobsMeta(service.row)
  return createLinkedReply(`${ask.baseUrl}/services/${id}/jobs`, shown, meta, { limit, next })
}

const createJob: PullRoute = async (ask) => {
  const service = findService(ask)
  const parsed = await ask.readJson()
  if (!parsed) throw createNotJson()
  const parameters = parseParameters(parsed)
  const checked = service.registrationSchema.check(parameters)
  if (checked) await checked
  const text = JSON.stringify(parameters.value)
  const job = await ask.hub.submitJob(service, text)
  const { id, submitted } = job
  const data = toJobBody({ id, submitted, status: 'REGISTERED', parameters: text })
  const location = `${ask.baseUrl}/jobs/${id}`
  const meta = `new job ID is ${id}`
  return { status: 201, headers: { location }, body: { data, meta, links: { self: location } } }
}

const listJobs: PullRoute = (ask) => {
  ask.access.requireFullAccess(ask.request, ask.hub.services.values())
  const { limit, after } = parsePage(ask)
  const from = after === undefined ? 0 : (ask.hub.store.job(after)?.seq ?? 0)
  const rows = ask.hub.store.jobs({ after: from, limit: limit + 1 })
  const page = rows.slice(0, limit)
  const next = rows.length > limit ? page.at(-1)?.id : undefined
  return createLinkedReply(`${ask.baseUrl}/jobs`, page.map(toJobSummary), META.jobs, {
    limit,
    next,
  })
}

/** Without a body, GET shows what may be sent. */
const validateInput: PullRoute = async ({
  readJson: body,
  baseUrl: base,
  access,
  request,
  response,
  method,
}) => {
  access.requireHubAccess(request)
  const parsed = await body()
  if (!parsed && method !== 'POST')
    return createLinkedReply(`${base}/validator`, {}, META.validator)
  if (!parsed) throw createNotJson()
  const { schema, object } = parseValidatorRequest(parsed)
  await validateBySchema(schema, object, () => !response.destroyed)
  const data = { status: 'Validation was successful' }
  return createLinkedReply(`${base}/validator`, data, META.validator)
}

/** A question of the first version, to see whether JSON gets through. */
const echoBody: PullRoute = async ({
  readJson: body,
  baseUrl: base,
  access,
  request,
}): Promise<PullApiReply> => {
  access.requireHubAccess(request)
  const parsed = await body()
  if (!parsed) throw createRefusal(400, 'Request Not JSON', 'there is nothing to echo')
  return createLinkedReply(`${base}/echo`, parsed.value)
}

export const PULL_ROUTES: readonly PullRouteEntry[] = [
  { pattern: ['services', ':id', 'next'], methods: { GET: claimNext, POST: claimNext } },
  { pattern: ['services', ':id', 'jobs', 'next'], methods: { GET: claimNext, POST: claimNext } },
  {
    pattern: ['jobs', ':id'],
    methods: { GET: getJob, PATCH: patchJob, PUT: patchJob, DELETE: cancelJob },
  },
  { pattern: ['services', ':id', 'jobs'], methods: { GET: listServiceJobs, POST: createJob } },
  { pattern: ['services', ':id'], methods: { GET: getService, PATCH: patchService } },
  { pattern: ['services', ':id', 'queue'], methods: { GET: getQueue } },
  { pattern: ['services'], methods: { GET: listServices, POST: createService } },
  { pattern: ['jobs'], methods: { GET: listJobs } },
  { pattern: ['validator'], methods: { GET: validateInput, POST: validateInput } },
  { pattern: [], methods: { GET: getAbout } },
  // The first version's.
  {
    pattern: ['services', ':id', 'jobs', ':id'],
    methods: { GET: getJob, PATCH: patchJob, PUT: patchJob, DELETE: cancelJob },
  },
  { pattern: ['jobs', ':id', 'next'], methods: { GET: nextJob } },
  { pattern: ['echo'], methods: { POST: echoBody, GET: echoBody } },
]
