/** Routes of one job: show it, change it, cancel it. */
import { parseCaller } from './claim-route.ts'
import { type PullApiReply, toJobBody, toJobView } from './envelope.ts'
import type { JobRow } from './job-store.ts'
import { createNotJson, createRefusal } from './json.ts'
import { createJobNotFound, createLinkedReply, parseUuid } from './lookup.ts'
import { META } from './meta.ts'
import type { OpenJob, WorkerIdentity } from './open-job.ts'
import { type JobPatch, parseJobPatch } from './request-fields.ts'
import type { PullApiCall, PullRoute } from './route.ts'
import { LEASE_HEADER } from './worker-headers.ts'

interface FoundJob {
  readonly id: string
  readonly job: OpenJob | undefined
  /** The job as it is stored. A job that stands for a request is not stored. */
  readonly row: JobRow | undefined
}

/** @throws Refusal 401, 404 */
function findRequestedJob({ pathIds, hub, access, request }: PullApiCall): FoundJob {
  const id = parseUuid(pathIds.at(-1) ?? '')
  const job = hub.findJob(id)
  const row = job?.request ? undefined : hub.store.job(id)
  const service = job?.service ?? (row && hub.services.get(row.service))
  if (service) access.requireServiceAccess(request, service)
  else access.requireHubAccess(request)
  if (!job && !row && !hub.isEndedRequest(id)) throw createJobNotFound(id)
  return { id, job, row }
}

function toFoundJobBody({ hub }: PullApiCall, { id, job, row }: FoundJob): object {
  if (job) return toJobBody(toJobView(job, row?.parameters ?? hub.claims.readParameters(job)))
  if (row) return toJobBody(row)
  throw createRefusal(410, 'Job Over', `job ${id} stood for a request, and has ended with it`)
}

export const getJob: PullRoute = (call) => {
  const found = findRequestedJob(call)
  return createLinkedReply(
    `${call.baseUrl}/jobs/${found.id}`,
    toFoundJobBody(call, found),
    META.job,
  )
}

/**
 * Changes a job. Only COMPLETED and ERROR end it. Results are kept with any status, because clients of the original system
 * report the results first and the status later. The body of the answer is the job itself, without `data`: the original
 * does this here and nowhere else.
 */
export const patchJob: PullRoute = async (call) => {
  const parsed = await call.readJson()
  if (!parsed) throw createNotJson()
  const patch = parseJobPatch(parsed.value)
  const caller = parseCaller(call.request)
  const found = findRequestedJob(call)
  const { job } = found
  if (!job) return patchEndedJob(call, found, patch, parsed.count)
  const { status, reason } = patch
  if (status === 'REGISTERED' && job.status !== 'REGISTERED') {
    throw createRefusal(
      409,
      'Conflict',
      `job ${job.id} is ${job.status}, and cannot become REGISTERED again`,
    )
  }
  const results = patch.results === undefined ? undefined : JSON.stringify(patch.results)
  // A job that waits needs no claim: this change may be the claim.
  if (results !== undefined && !job.isQueued) call.hub.claims.requireHolder(job, caller)
  if (results !== undefined && status !== 'ERROR') {
    await job.service.resultSchema.check({ value: patch.results, count: parsed.count })
  }
  if (status === 'COMPLETED' || status === 'ERROR') {
    const { id, submitted } = job
    const parameters = call.hub.claims.readParameters(job)
    const kept = results ?? job.results
    await call.hub.finishJob(job, { status, results: kept, reason }, caller)
    const body = toJobBody({ id, submitted, status, parameters, results: kept, reason })
    return { status: 200, body }
  }
  if (status === 'WORKING') await claimOrRenew(call, job, caller)
  if (results !== undefined) await call.hub.claims.storeResults(job, results, caller)
  const headers = status === 'WORKING' && job.lease ? { [LEASE_HEADER]: job.lease } : {}
  return { status: 200, headers, body: toFoundJobBody(call, found) }
}

/**
 * Changes a job that has ended. Only the worker that has ended it may do so, and in two cases:
 * 1. The job was COMPLETED without results, and the change brings them.
 * 2. The change repeats the one that ended the job: the worker may not have got the answer to the first one.
 */
async function patchEndedJob(
  call: PullApiCall,
  { id, row }: FoundJob,
  { status, results }: JobPatch,
  count: number,
): Promise<PullApiReply> {
  const caller = parseCaller(call.request)
  const service = row && call.hub.services.get(row.service)
  const isHolder = row && (caller.lease ? caller.lease === row.lease : caller.worker === row.worker)
  // 1.
  const lacksResults = row?.status === 'COMPLETED' && row.results === undefined
  if (row && service && isHolder && lacksResults && results !== undefined) {
    if (status === undefined || status === 'COMPLETED') {
      await service.resultSchema.check({ value: results, count })
      const filled = { ...row, results: JSON.stringify(results) }
      await call.hub.store.setJob(id, filled)
      return { status: 200, body: toJobBody(filled) }
    }
  }
  // 2.
  if (row && caller.lease && isHolder && status === row.status) {
    return { status: 200, body: toJobBody(row) }
  }
  service?.countLate()
  throw createRefusal(409, 'Conflict', `job ${id} has ended${row ? ` as ${row.status}` : ''}`)
}

/** The status WORKING claims a job that waits, and renews the lease of one that is claimed. */
async function claimOrRenew(
  { hub }: PullApiCall,
  job: OpenJob,
  caller: WorkerIdentity,
): Promise<void> {
  if (job.isQueued && !caller.lease) await hub.claims.claimJob(job, caller.worker)
  else hub.claims.renewLease(job, caller)
}

export const cancelJob: PullRoute = async (call) => {
  const found = findRequestedJob(call)
  const { job, id } = found
  if (!job) throw createRefusal(409, 'Conflict', `job ${id} has ended`)
  const parameters = call.hub.claims.readParameters(job)
  const { submitted } = job
  await call.hub.cancelJob(job, 'cancelled')
  const view = { id, submitted, status: 'ERROR', parameters, reason: 'cancelled' } as const
  return createLinkedReply(`${call.baseUrl}/jobs/${id}`, toJobBody(view), META.job)
}

/** Of the first version: redirects to the job that follows this one in the queue of its service. */
export const nextJob: PullRoute = (call) => {
  const { job, row } = findRequestedJob(call)
  const service = job?.service ?? (row && call.hub.services.get(row.service))
  const seq = job?.seq ?? row?.seq ?? 0
  const next = service?.queue.peek(1_000).find((one) => one.seq > seq)
  if (!next) return { status: 204 }
  return { status: 302, headers: { location: `${call.baseUrl}/jobs/${next.id}` } }
}
