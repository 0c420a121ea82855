/** One job: look at it, say how it goes, end it, cancel it. */
import type { Ask, Route } from './api.ts'
import { callerOf, LEASE_HEADER } from './claim-route.ts'
import { jobBody, openView, type Reply } from './envelope.ts'
import { type JobPatch, jobPatch } from './fields.ts'
import type { Caller, Job } from './job.ts'
import { notJson, refuse } from './json.ts'
import { noJob, uuid, withLinks } from './lookup.ts'
import { META } from './meta.ts'
import type { JobRow } from './store.ts'

interface Found {
  readonly id: string
  readonly job: Job | undefined
  /** As it is stored; the requests of the virtual URL are not. */
  readonly row: JobRow | undefined
}

/** @throws Refusal 401, 404 */
function find({ ids, hub, access, request }: Ask): Found {
  const id = uuid(ids.at(-1) ?? '')
  const job = hub.job(id)
  const row = job?.call ? undefined : hub.store.job(id)
  const service = job?.service ?? (row && hub.services.get(row.service))
  if (service) access.service(request, service)
  else access.any(request)
  if (!job && !row && !hub.isOver(id)) throw noJob(id)
  return { id, job, row }
}

function bodyOf({ hub }: Ask, { id, job, row }: Found): object {
  if (job) return jobBody(openView(job, row?.parameters ?? hub.claims.parameters(job)))
  if (row) return jobBody(row)
  throw refuse(410, 'Job Over', `job ${id} was a request's, and has ended with it`)
}

export const getJob: Route = (ask) => {
  const found = find(ask)
  return withLinks(`${ask.base}/jobs/${found.id}`, bodyOf(ask, found), META.job)
}

/**
 * A change of a job. Only COMPLETED and ERROR end it; results are kept from any change, as the original keeps them: its
 * client reports the results first and the status later. The body of the answer is the job itself: the original answers
 * so here, and nowhere else.
 */
export const patchJob: Route = async (ask) => {
  const parsed = await ask.body()
  if (!parsed) throw notJson()
  const patch = jobPatch(parsed.value)
  const caller = callerOf(ask.request)
  const found = find(ask)
  const { job } = found
  if (!job) return patchEnded(ask, found, patch, parsed.count)
  const { status, reason } = patch
  if (status === 'REGISTERED' && job.status !== 'REGISTERED') {
    throw refuse(409, 'Conflict', `job ${job.id} is ${job.status}: it does not go back`)
  }
  const results = patch.results === undefined ? undefined : JSON.stringify(patch.results)
  // A job that waits has no claim yet: the change may be its claim.
  if (results !== undefined && !job.waits) ask.hub.claims.mustHold(job, caller)
  if (results !== undefined && status !== 'ERROR') {
    await job.service.result.check({ value: patch.results, count: parsed.count })
  }
  if (status === 'COMPLETED' || status === 'ERROR') {
    const { id, submitted } = job
    const parameters = ask.hub.claims.parameters(job)
    const kept = results ?? job.results
    await ask.hub.finish(job, { status, results: kept, reason }, caller)
    const body = jobBody({ id, submitted, status, parameters, results: kept, reason })
    return { status: 200, body }
  }
  if (status === 'WORKING') await claimOrRenew(ask, job, caller)
  if (results !== undefined) await ask.hub.claims.keepResults(job, results, caller)
  const headers = status === 'WORKING' && job.lease ? { [LEASE_HEADER]: job.lease } : {}
  return { status: 200, headers, body: bodyOf(ask, found) }
}

/**
 * A job that has ended takes two more changes, both from the worker that ended it: the same one again, because the worker
 * may not have heard the answer, and results for a job that was COMPLETED without any.
 */
async function patchEnded(
  ask: Ask,
  { id, row }: Found,
  { status, results }: JobPatch,
  count: number,
): Promise<Reply> {
  const caller = callerOf(ask.request)
  const service = row && ask.hub.services.get(row.service)
  const isHolder = row && (caller.lease ? caller.lease === row.lease : caller.worker === row.worker)
  const lacksResults = row?.status === 'COMPLETED' && row.results === undefined
  if (row && service && isHolder && lacksResults && results !== undefined) {
    if (status === undefined || status === 'COMPLETED') {
      await service.result.check({ value: results, count })
      const filled = { ...row, results: JSON.stringify(results) }
      await ask.hub.store.setJob(id, filled)
      return { status: 200, body: jobBody(filled) }
    }
  }
  if (row && caller.lease && isHolder && status === row.status) {
    return { status: 200, body: jobBody(row) }
  }
  service?.noteLate()
  throw refuse(409, 'Conflict', `job ${id} has ended${row ? ` as ${row.status}` : ''}`)
}

/** A claim of this one job, or the word that it goes on. */
async function claimOrRenew({ hub }: Ask, job: Job, caller: Caller): Promise<void> {
  if (job.waits && !caller.lease) await hub.claims.claimOne(job, caller.worker)
  else hub.claims.renew(job, caller)
}

export const cancelJob: Route = async (ask) => {
  const found = find(ask)
  const { job, id } = found
  if (!job) throw refuse(409, 'Conflict', `job ${id} has ended`)
  const parameters = ask.hub.claims.parameters(job)
  const { submitted } = job
  await ask.hub.cancel(job, 'cancelled')
  const view = { id, submitted, status: 'ERROR', parameters, reason: 'cancelled' } as const
  return withLinks(`${ask.base}/jobs/${id}`, jobBody(view), META.job)
}

/** The first version's: where the job is that the service would do after this one. */
export const nextJob: Route = (ask) => {
  const { job, row } = find(ask)
  const service = job?.service ?? (row && ask.hub.services.get(row.service))
  const seq = job?.seq ?? row?.seq ?? 0
  const next = service?.line.first(1_000).find((one) => one.seq > seq)
  if (!next) return { status: 204 }
  return { status: 302, headers: { location: `${ask.base}/jobs/${next.id}` } }
}
