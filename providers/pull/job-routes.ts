/** One job: look at it, say how it goes, end it, cancel it. */
import type { Ask, Route } from './api.ts'
import { callerOf, LEASE_HEADER } from './claim-route.ts'
import { jobBody, META, openView, type Reply } from './envelope.ts'
import { jobPatch } from './fields.ts'
import type { Outcome } from './hub.ts'
import type { Job } from './job.ts'
import { notJson, refuse } from './json.ts'
import { noJob, uuid, withLinks } from './lookup.ts'
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

/** The body of the answer is the job itself: so the original has it, and no other path does. */
export const patchJob: Route = async (ask) => {
  const parsed = await ask.body()
  if (!parsed) throw notJson()
  const patch = jobPatch(parsed.value)
  const caller = callerOf(ask.request)
  const found = find(ask)
  const { job, row, id } = found
  if (!job) {
    // The same worker says the same once more: it has not heard the answer.
    const isSame = caller.lease !== undefined && caller.lease === row?.lease
    if (row && isSame && patch.status === row.status) return { status: 200, body: jobBody(row) }
    if (row) ask.hub.services.get(row.service)?.noteLate()
    throw refuse(409, 'Conflict', `job ${id} has ended${row ? ` as ${row.status}` : ''}`)
  }
  const { status, reason } = patch
  if (status === undefined && patch.results === undefined) {
    return { status: 200, body: bodyOf(ask, found) }
  }
  if (status === 'REGISTERED' && job.status !== 'REGISTERED') {
    throw refuse(409, 'Conflict', `job ${id} is ${job.status}: it does not go back`)
  }
  if (status === 'REGISTERED') return { status: 200, body: bodyOf(ask, found) }
  if (status === 'WORKING') return working(ask, job, row)
  const parameters = row?.parameters ?? ask.hub.claims.parameters(job)
  const text = patch.results === undefined ? undefined : JSON.stringify(patch.results)
  const outcome: Outcome = {
    // Results without a word are a result all the same.
    status: status ?? 'COMPLETED',
    results:
      text === undefined
        ? undefined
        : { text, parsed: { value: patch.results, count: parsed.count } },
    reason,
  }
  if (outcome.status === 'COMPLETED' && !outcome.results) {
    throw refuse(400, 'No Results', 'a job that is COMPLETED has results')
  }
  await ask.hub.finish(job, outcome, caller)
  const { submitted } = job
  const body = jobBody({ id, submitted, status: outcome.status, parameters, results: text, reason })
  return { status: 200, body }
}

/** A claim of this one job, or the word that it goes on. */
async function working(ask: Ask, job: Job, row: JobRow | undefined): Promise<Reply> {
  const caller = callerOf(ask.request)
  if (job.waits && !caller.lease) await ask.hub.claims.claimOne(job, caller.worker)
  else ask.hub.claims.renew(job, caller)
  const parameters = row?.parameters ?? ask.hub.claims.parameters(job)
  const headers = job.lease ? { [LEASE_HEADER]: job.lease } : {}
  return { status: 200, headers, body: jobBody(openView(job, parameters)) }
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
  return { status: 302, headers: { location: `${ask.options.prefix}/jobs/${next.id}` } }
}
