/** One job: look at it, say how it goes, end it, cancel it. */
import type { PullApiRequest, PullRoute } from './api.ts'
import { LEASE_HEADER, parseCaller } from './claim-route.ts'
import { type PullApiReply, toJobBody, toJobView } from './envelope.ts'
import type { JobRow } from './job-store.ts'
import { createNotJson, createRefusal } from './json.ts'
import { createJobNotFound, createLinkedReply, parseUuid } from './lookup.ts'
import { META } from './meta.ts'
import type { OpenJob, WorkerIdentity } from './open-job.ts'
import { type JobPatch, parseJobPatch } from './request-fields.ts'

interface FoundJob {
  readonly id: string
  readonly job: OpenJob | undefined
  /** As it is stored; the requests of the virtual URL are not. */
  readonly row: JobRow | undefined
}

/** @throws Refusal 401, 404 */
function findRequestedJob({ pathIds: ids, hub, access, request }: PullApiRequest): FoundJob {
  const id = parseUuid(ids.at(-1) ?? '')
  const job = hub.findJob(id)
  const row = job?.request ? undefined : hub.store.job(id)
  const service = job?.service ?? (row && hub.services.get(row.service))
  if (service) access.requireServiceAccess(request, service)
  else access.requireHubAccess(request)
  if (!job && !row && !hub.isEndedRequest(id)) throw createJobNotFound(id)
  return { id, job, row }
}

function toFoundJobBody({ hub }: PullApiRequest, { id, job, row }: FoundJob): object {
  if (job) return toJobBody(toJobView(job, row?.parameters ?? hub.claims.readParameters(job)))
  if (row) return toJobBody(row)
  throw createRefusal(410, 'Job Over', `job ${id} was a request's, and has ended with it`)
}

export const getJob: PullRoute = (ask) => {
  const found = findRequestedJob(ask)
  return createLinkedReply(`${ask.baseUrl}/jobs/${found.id}`, toFoundJobBody(ask, found), META.job)
}

/**
 * A change of a job. Only COMPLETED and ERROR end it; results are kept from any change, as the original keeps them: its
 * client reports the results first and the status later. The body of the answer is the job itself: the original answers
 * so here, and nowhere else.
 */
export const patchJob: PullRoute = async (ask) => {
  const parsed = await ask.readJson()
  if (!parsed) throw createNotJson()
  const patch = parseJobPatch(parsed.value)
  const caller = parseCaller(ask.request)
  const found = findRequestedJob(ask)
  const { job } = found
  if (!job) return patchEndedJob(ask, found, patch, parsed.count)
  const { status, reason } = patch
  if (status === 'REGISTERED' && job.status !== 'REGISTERED') {
    throw createRefusal(409, 'Conflict', `job ${job.id} is ${job.status}: it does not go back`)
  }
  const results = patch.results === undefined ? undefined : JSON.stringify(patch.results)
  // A job that waits has no claim yet: the change may be its claim.
  if (results !== undefined && !job.isQueued) ask.hub.claims.requireHolder(job, caller)
  if (results !== undefined && status !== 'ERROR') {
    await job.service.resultSchema.check({ value: patch.results, count: parsed.count })
  }
  if (status === 'COMPLETED' || status === 'ERROR') {
    const { id, submitted } = job
    const parameters = ask.hub.claims.readParameters(job)
    const kept = results ?? job.results
    await ask.hub.finishJob(job, { status, results: kept, reason }, caller)
    const body = toJobBody({ id, submitted, status, parameters, results: kept, reason })
    return { status: 200, body }
  }
  if (status === 'WORKING') await claimOrRenew(ask, job, caller)
  if (results !== undefined) await ask.hub.claims.storeResults(job, results, caller)
  const headers = status === 'WORKING' && job.lease ? { [LEASE_HEADER]: job.lease } : {}
  return { status: 200, headers, body: toFoundJobBody(ask, found) }
}

/**
 * A job that has ended takes two more changes, both from the worker that ended it: the same one again, because the worker
 * may not have heard the answer, and results for a job that was COMPLETED without any.
 */
async function patchEndedJob(
  ask: PullApiRequest,
  { id, row }: FoundJob,
  { status, results }: JobPatch,
  count: number,
): Promise<PullApiReply> {
  const caller = parseCaller(ask.request)
  const service = row && ask.hub.services.get(row.service)
  const isHolder = row && (caller.lease ? caller.lease === row.lease : caller.worker === row.worker)
  const lacksResults = row?.status === 'COMPLETED' && row.results === undefined
  if (row && service && isHolder && lacksResults && results !== undefined) {
    if (status === undefined || status === 'COMPLETED') {
      await service.resultSchema.check({ value: results, count })
      const filled = { ...row, results: JSON.stringify(results) }
      await ask.hub.store.setJob(id, filled)
      return { status: 200, body: toJobBody(filled) }
    }
  }
  if (row && caller.lease && isHolder && status === row.status) {
    return { status: 200, body: toJobBody(row) }
  }
  service?.countLate()
  throw createRefusal(409, 'Conflict', `job ${id} has ended${row ? ` as ${row.status}` : ''}`)
}

/** A claim of this one job, or the word that it goes on. */
async function claimOrRenew(
  { hub }: PullApiRequest,
  job: OpenJob,
  caller: WorkerIdentity,
): Promise<void> {
  if (job.isQueued && !caller.lease) await hub.claims.claimJob(job, caller.worker)
  else hub.claims.renewLease(job, caller)
}

export const cancelJob: PullRoute = async (ask) => {
  const found = findRequestedJob(ask)
  const { job, id } = found
  if (!job) throw createRefusal(409, 'Conflict', `job ${id} has ended`)
  const parameters = ask.hub.claims.readParameters(job)
  const { submitted } = job
  await ask.hub.cancelJob(job, 'cancelled')
  const view = { id, submitted, status: 'ERROR', parameters, reason: 'cancelled' } as const
  return createLinkedReply(`${ask.baseUrl}/jobs/${id}`, toJobBody(view), META.job)
}

/** The first version's: where the job is that the service would do after this one. */
export const nextJob: PullRoute = (ask) => {
  const { job, row } = findRequestedJob(ask)
  const service = job?.service ?? (row && ask.hub.services.get(row.service))
  const seq = job?.seq ?? row?.seq ?? 0
  const next = service?.queue.peek(1_000).find((one) => one.seq > seq)
  if (!next) return { status: 204 }
  return { status: 302, headers: { location: `${ask.baseUrl}/jobs/${next.id}` } }
}
