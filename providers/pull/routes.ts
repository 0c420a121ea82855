/** What each path and method does. */
import { randomUUID } from 'node:crypto'
import { wallClock } from '../../src/core/time.ts'
import { digest } from './access.ts'
import type { Route } from './api.ts'
import { callerOf, claimNext } from './claim-route.ts'
import { jobBody, jobLine, openView, type Reply, serviceBody, serviceLine } from './envelope.ts'
import { newService, parametersOf, servicePatch, validatorQuestion } from './fields.ts'
import { cancelJob, getJob, nextJob, patchJob } from './job-routes.ts'
import { notJson, refuse } from './json.ts'
import { pageOf, serviceOf, withLinks } from './lookup.ts'
import { META, metaOfJobs } from './meta.ts'
import { validate } from './schema-checks.ts'

interface Entry {
  readonly pattern: readonly string[]
  readonly methods: Readonly<Record<string, Route>>
}

/** A service's own timeout, in seconds, where it says none. */
const TIMEOUT = 30
/** As many as the original shows. */
const QUEUE_VIEW = 10

const about: Route = ({ base, options, access, request }) => {
  access.any(request)
  return withLinks(`${base}/`, options.about, META.about)
}

const listServices: Route = (ask) => {
  ask.access.any(ask.request)
  const { limit, after } = pageOf(ask)
  const all = [...ask.hub.services.values()].sort((a, b) => (a.row.id < b.row.id ? -1 : 1))
  const rest = after ? all.filter(({ row }) => row.id > after) : all
  const page = rest.slice(0, limit)
  const next = rest.length > limit ? page.at(-1)?.row.id : undefined
  return withLinks(`${ask.base}/services`, page.map(serviceLine), META.services, { limit, next })
}

const createService: Route = async ({ hub, base, body, access, request }) => {
  access.any(request)
  const self = `${base}/services`
  const given = await newService((await body())?.value)
  const service = await hub.register({
    id: randomUUID(),
    name: given.name,
    description: given.description,
    timeout: (given.timeout ?? TIMEOUT) * 1_000,
    registration: JSON.stringify(given.job_registration_schema),
    result: JSON.stringify(given.job_result_schema),
    token: given.token === undefined ? undefined : digest(given.token),
  })
  return {
    status: 201,
    headers: { location: `${base}/services/${service.row.id}` },
    body: { data: { message: 'service successfully created' }, meta: {}, links: { self } },
  }
}

const getService: Route = (ask) => {
  const service = serviceOf(ask)
  const jobs = ask.hub.store.jobs({ service: service.row.id, after: 0, limit: 100 }).map(jobLine)
  const self = `${ask.base}/services/${service.row.id}`
  return withLinks(self, serviceBody(service, jobs), META.service)
}

const patchService: Route = async (ask) => {
  const service = serviceOf(ask)
  const parsed = await ask.body()
  if (!parsed) {
    const { worker } = callerOf(ask.request)
    ask.hub.claims.checkIn(service, worker)
    return {
      status: 200,
      body: { meta: `Service checked in at ${new Date(wallClock()).toISOString()}` },
    }
  }
  const patch = servicePatch(parsed.value)
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

const queue: Route = (ask) => {
  const service = serviceOf(ask)
  const jobs = service.line.first(QUEUE_VIEW)
  if (jobs.length === 0) return { status: 204 }
  const shown = jobs.map((job) => jobBody(openView(job, ask.hub.claims.parameters(job))))
  return withLinks(`${ask.base}/services/${service.row.id}/queue`, shown, META.queue)
}

const listServiceJobs: Route = (ask) => {
  const service = serviceOf(ask)
  const { id } = service.row
  const { limit, after } = pageOf(ask)
  const from = after === undefined ? 0 : (ask.hub.store.job(after)?.seq ?? 0)
  const rows = ask.hub.store.jobs({ service: id, after: from, limit: limit + 1 })
  const page = rows.slice(0, limit)
  const shown = page.flatMap(({ id }) => {
    const row = ask.hub.store.job(id)
    return row ? [jobBody(row)] : []
  })
  const next = rows.length > limit ? page.at(-1)?.id : undefined
  const meta = metaOfJobs(service.row)
  return withLinks(`${ask.base}/services/${id}/jobs`, shown, meta, { limit, next })
}

const submit: Route = async (ask) => {
  const service = serviceOf(ask)
  const parsed = await ask.body()
  if (!parsed) throw notJson()
  const parameters = parametersOf(parsed)
  const checked = service.registration.check(parameters)
  if (checked) await checked
  const text = JSON.stringify(parameters.value)
  const job = await ask.hub.submit(service, text)
  const { id, submitted } = job
  const data = jobBody({ id, submitted, status: 'REGISTERED', parameters: text })
  const location = `${ask.base}/jobs/${id}`
  const meta = `new job ID is ${id}`
  return { status: 201, headers: { location }, body: { data, meta, links: { self: location } } }
}

const listJobs: Route = (ask) => {
  ask.access.hub(ask.request, ask.hub.services.values())
  const { limit, after } = pageOf(ask)
  const from = after === undefined ? 0 : (ask.hub.store.job(after)?.seq ?? 0)
  const rows = ask.hub.store.jobs({ after: from, limit: limit + 1 })
  const page = rows.slice(0, limit)
  const next = rows.length > limit ? page.at(-1)?.id : undefined
  return withLinks(`${ask.base}/jobs`, page.map(jobLine), META.jobs, { limit, next })
}

/** Without a body, GET shows what may be sent. */
const validator: Route = async ({ body, base, access, request, response, method }) => {
  access.any(request)
  const parsed = await body()
  if (!parsed && method !== 'POST') return withLinks(`${base}/validator`, {}, META.validator)
  if (!parsed) throw notJson()
  const { schema, object } = validatorQuestion(parsed)
  await validate(schema, object, () => !response.destroyed)
  const data = { status: 'Validation was successful' }
  return withLinks(`${base}/validator`, data, META.validator)
}

/** A question of the first version, to see whether JSON gets through. */
const echo: Route = async ({ body, base, access, request }): Promise<Reply> => {
  access.any(request)
  const parsed = await body()
  if (!parsed) throw refuse(400, 'Request Not JSON', 'there is nothing to echo')
  return withLinks(`${base}/echo`, parsed.value)
}

export const routes: readonly Entry[] = [
  { pattern: ['services', ':id', 'next'], methods: { GET: claimNext, POST: claimNext } },
  { pattern: ['services', ':id', 'jobs', 'next'], methods: { GET: claimNext, POST: claimNext } },
  {
    pattern: ['jobs', ':id'],
    methods: { GET: getJob, PATCH: patchJob, PUT: patchJob, DELETE: cancelJob },
  },
  { pattern: ['services', ':id', 'jobs'], methods: { GET: listServiceJobs, POST: submit } },
  { pattern: ['services', ':id'], methods: { GET: getService, PATCH: patchService } },
  { pattern: ['services', ':id', 'queue'], methods: { GET: queue } },
  { pattern: ['services'], methods: { GET: listServices, POST: createService } },
  { pattern: ['jobs'], methods: { GET: listJobs } },
  { pattern: ['validator'], methods: { GET: validator, POST: validator } },
  { pattern: [], methods: { GET: about } },
  // The first version's.
  {
    pattern: ['services', ':id', 'jobs', ':id'],
    methods: { GET: getJob, PATCH: patchJob, PUT: patchJob, DELETE: cancelJob },
  },
  { pattern: ['jobs', ':id', 'next'], methods: { GET: nextJob } },
  { pattern: ['echo'], methods: { POST: echo, GET: echo } },
]
