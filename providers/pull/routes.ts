/** What each path and method of the API does. */
import { randomUUID } from 'node:crypto'
import { wallClock } from '../../src/core/time.ts'
import { digestToken } from './access.ts'
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
import type { PullRoute, PullRouteEntry } from './route.ts'
import { validateBySchema } from './schema-checks.ts'

/** The timeout of a service that is registered without one, in seconds. */
const DEFAULT_TIMEOUT_SECONDS = 30
/** Jobs of a queue that are shown. The original system shows as many. */
const MAX_SHOWN_JOBS = 10

const getAbout: PullRoute = ({ baseUrl, options, access, request }) => {
  access.requireHubAccess(request)
  return createLinkedReply(`${baseUrl}/`, options.about, META.about)
}

const listServices: PullRoute = (call) => {
  call.access.requireHubAccess(call.request)
  const { limit, after } = parsePage(call)
  const all = [...call.hub.services.values()].sort((a, b) => (a.row.id < b.row.id ? -1 : 1))
  const rest = after ? all.filter(({ row }) => row.id > after) : all
  const page = rest.slice(0, limit)
  const next = rest.length > limit ? page.at(-1)?.row.id : undefined
  return createLinkedReply(`${call.baseUrl}/services`, page.map(toServiceSummary), META.services, {
    limit,
    next,
  })
}

const createService: PullRoute = async ({ hub, baseUrl, readJson, access, request }) => {
  access.requireHubAccess(request)
  const self = `${baseUrl}/services`
  const given = await parseNewService((await readJson())?.value)
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
    headers: { location: `${baseUrl}/services/${service.row.id}` },
    body: { data: { message: 'service successfully created' }, meta: {}, links: { self } },
  }
}

const getService: PullRoute = (call) => {
  const service = findService(call)
  const jobs = call.hub.store
    .jobs({ service: service.row.id, after: 0, limit: 100 })
    .map(toJobSummary)
  const self = `${call.baseUrl}/services/${service.row.id}`
  return createLinkedReply(self, toServiceBody(service, jobs), META.service)
}

const patchService: PullRoute = async (call) => {
  const service = findService(call)
  const parsed = await call.readJson()
  if (!parsed) {
    const { worker } = parseCaller(call.request)
    call.hub.claims.checkIn(service, worker)
    return {
      status: 200,
      body: { meta: `Service checked in at ${new Date(wallClock()).toISOString()}` },
    }
  }
  const patch = parseServicePatch(parsed.value)
  const { row } = service
  const before = { ...row }
  call.hub.claims.checkIn(service, undefined)
  Object.assign(row, {
    name: patch.name ?? row.name,
    description: patch.description ?? row.description,
    timeout: patch.timeout === undefined ? row.timeout : patch.timeout * 1_000,
    available: patch.is_available ?? row.available,
  })
  await call.hub.saveService(service, before)
  return getService(call)
}

const getQueue: PullRoute = (call) => {
  const service = findService(call)
  const jobs = service.queue.peek(MAX_SHOWN_JOBS)
  if (jobs.length === 0) return { status: 204 }
  const shown = jobs.map((job) => toJobBody(toJobView(job, call.hub.claims.readParameters(job))))
  return createLinkedReply(`${call.baseUrl}/services/${service.row.id}/queue`, shown, META.queue)
}

const listServiceJobs: PullRoute = (call) => {
  const service = findService(call)
  const { id } = service.row
  const { limit, after } = parsePage(call)
  const from = after === undefined ? 0 : (call.hub.store.job(after)?.seq ?? 0)
  const rows = call.hub.store.jobs({ service: id, after: from, limit: limit + 1 })
  const page = rows.slice(0, limit)
  const shown = page.flatMap(({ id }) => {
    const row = call.hub.store.job(id)
    return row ? [toJobBody(row)] : []
  })
  const next = rows.length > limit ? page.at(-1)?.id : undefined
  const meta = toJobsMeta(service.row)
  return createLinkedReply(`${call.baseUrl}/services/${id}/jobs`, shown, meta, { limit, next })
}

const createJob: PullRoute = async (call) => {
  const service = findService(call)
  const parsed = await call.readJson()
  if (!parsed) throw createNotJson()
  const parameters = parseParameters(parsed)
  const checked = service.registrationSchema.check(parameters)
  if (checked) await checked
  const text = JSON.stringify(parameters.value)
  const job = await call.hub.submitJob(service, text)
  const { id, submitted } = job
  const data = toJobBody({ id, submitted, status: 'REGISTERED', parameters: text })
  const location = `${call.baseUrl}/jobs/${id}`
  const meta = `new job ID is ${id}`
  return { status: 201, headers: { location }, body: { data, meta, links: { self: location } } }
}

const listJobs: PullRoute = (call) => {
  call.access.requireFullAccess(call.request, call.hub.services.values())
  const { limit, after } = parsePage(call)
  const from = after === undefined ? 0 : (call.hub.store.job(after)?.seq ?? 0)
  const rows = call.hub.store.jobs({ after: from, limit: limit + 1 })
  const page = rows.slice(0, limit)
  const next = rows.length > limit ? page.at(-1)?.id : undefined
  return createLinkedReply(`${call.baseUrl}/jobs`, page.map(toJobSummary), META.jobs, {
    limit,
    next,
  })
}

/** A GET without a body shows what may be sent. */
const validateInput: PullRoute = async ({
  readJson,
  baseUrl,
  access,
  request,
  response,
  method,
}) => {
  access.requireHubAccess(request)
  const parsed = await readJson()
  if (!parsed && method !== 'POST') {
    return createLinkedReply(`${baseUrl}/validator`, {}, META.validator)
  }
  if (!parsed) throw createNotJson()
  const { schema, object } = parseValidatorRequest(parsed)
  await validateBySchema(schema, object, () => !response.destroyed)
  const data = { status: 'Validation was successful' }
  return createLinkedReply(`${baseUrl}/validator`, data, META.validator)
}

/** Of the first version: answers with the body, so that a client can see whether its JSON gets through. */
const echoBody: PullRoute = async ({
  readJson,
  baseUrl,
  access,
  request,
}): Promise<PullApiReply> => {
  access.requireHubAccess(request)
  const parsed = await readJson()
  if (!parsed) throw createRefusal(400, 'Request Not JSON', 'there is nothing to echo')
  return createLinkedReply(`${baseUrl}/echo`, parsed.value)
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
  // Paths of the first version.
  {
    pattern: ['services', ':id', 'jobs', ':id'],
    methods: { GET: getJob, PATCH: patchJob, PUT: patchJob, DELETE: cancelJob },
  },
  { pattern: ['jobs', ':id', 'next'], methods: { GET: nextJob } },
  { pattern: ['echo'], methods: { POST: echoBody, GET: echoBody } },
]
