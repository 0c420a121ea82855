/** `next`: a worker asks for a job, and may wait for it. */
import type { IncomingMessage } from 'node:http'
import type { PullRoute } from './api.ts'
import { toClaimMeta, toJobBody } from './envelope.ts'
import { createRefusal } from './json.ts'
import { findService } from './lookup.ts'
import type { WorkerIdentity } from './open-job.ts'

/** Of a worker, chosen by itself, unlike that of any other. */
export const WORKER_HEADER = 'x-manyhost-worker'
/** Of the claim: shown with what is said of the job. */
export const LEASE_HEADER = 'x-manyhost-lease'

/** A worker without a name is known by its address. @throws Refusal 400 */
export function parseCaller({ headers, socket }: IncomingMessage): WorkerIdentity {
  const name = headers[WORKER_HEADER]
  const lease = headers[LEASE_HEADER]
  if (name === undefined) {
    return { worker: `@${socket.remoteAddress ?? 'local'}`, lease: lease as string | undefined }
  }
  if (typeof name === 'string' && /^[\w.:-]{1,100}$/.test(name)) {
    return { worker: name, lease: lease as string | undefined }
  }
  const detail = `${WORKER_HEADER} must be 1 to 100 letters, digits, or any of _ . : -`
  throw createRefusal(400, 'Bad Worker Name', detail)
}

/** Seconds that the client would wait (RFC 7240 section 4.3); 0 if it says nothing of it. */
export function parseWaitSeconds({ headers }: IncomingMessage, maxSeconds: number): number {
  const [, seconds] = /(?:^|[,;\s])wait\s*=\s*"?(\d{1,9})/i.exec(String(headers.prefer ?? '')) ?? []
  return Math.min(Number(seconds ?? 0), maxSeconds)
}

export const claimNext: PullRoute = async (ask) => {
  const { request, response, hub, options } = ask
  const service = findService(ask)
  const { worker } = parseCaller(request)
  const seconds = parseWaitSeconds(request, options.maxWait)
  const gone = new AbortController()
  const onClose = (): void => gone.abort()
  const { socket } = request
  // A worker that ends its half while it waits is most likely gone: it gets no job, and is told so if it is not.
  socket.once('end', onClose)
  response.once('close', onClose)
  const claim = await hub.claims.claimNextJob(service, worker, seconds * 1_000, gone.signal)
  response.off('close', onClose)
  socket.off('end', onClose)
  const headers = seconds > 0 ? { 'preference-applied': `wait=${seconds}` } : {}
  if (!claim) return { status: 204, headers }
  const { job, lease } = claim
  // Nobody has heard that it was given away: the next one may have it now, not when its lease is over.
  const giveBack = (): void => {
    if (!response.writableFinished && job.lease === lease)
      hub.claims.releaseJob(job, 'its worker hung up')
  }
  if (response.destroyed) giveBack()
  else response.once('close', giveBack)
  const { id, submitted } = job
  const data = toJobBody({ id, submitted, status: 'WORKING', parameters: claim.parameters })
  return {
    status: 200,
    headers: { ...headers, [LEASE_HEADER]: lease },
    body: {
      data,
      meta: toClaimMeta(claim, hub.limits.lease / 1_000, options.bodySize),
      links: { self: `${ask.baseUrl}/jobs/${id}` },
    },
  }
}
