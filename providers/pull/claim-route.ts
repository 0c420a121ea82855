/** `next`: a worker asks for a job, and may wait for it. */
import type { IncomingMessage } from 'node:http'
import { toClaimMeta, toJobBody } from './envelope.ts'
import { createRefusal } from './json.ts'
import { findService } from './lookup.ts'
import type { WorkerIdentity } from './open-job.ts'
import type { PullRoute } from './route.ts'
import { LEASE_HEADER, WORKER_HEADER, WORKER_NAME } from './worker-headers.ts'

/** A worker without a name is known by its address. @throws Refusal 400 */
export function parseCaller({ headers, socket }: IncomingMessage): WorkerIdentity {
  const name = headers[WORKER_HEADER]
  const lease = headers[LEASE_HEADER] as string | undefined
  if (name === undefined) return { worker: `@${socket.remoteAddress ?? 'local'}`, lease }
  if (typeof name === 'string' && WORKER_NAME.test(name)) return { worker: name, lease }
  const detail = `${WORKER_HEADER} must be 1 to 100 letters, digits, or any of _ . : -`
  throw createRefusal(400, 'Bad Worker Name', detail)
}

/** Seconds that the caller is willing to wait (`Prefer: wait=30`, RFC 7240 section 4.3); 0 by default. */
function parseWaitSeconds({ headers }: IncomingMessage, maxSeconds: number): number {
  const [, seconds] = /(?:^|[,;\s])wait\s*=\s*"?(\d{1,9})/i.exec(String(headers.prefer ?? '')) ?? []
  return Math.min(Number(seconds ?? 0), maxSeconds)
}

export const claimNext: PullRoute = async (call) => {
  const { request, response, hub, options } = call
  const service = findService(call)
  const { worker } = parseCaller(request)
  const seconds = parseWaitSeconds(request, options.maxWait)
  const gone = new AbortController()
  const onClose = (): void => gone.abort()
  const { socket } = request
  // A worker that ends its half of the connection while it waits is most likely gone. It gets no job, and if it is still
  // there, it gets the answer 204.
  socket.once('end', onClose)
  response.once('close', onClose)
  const claim = await hub.claims.claimNextJob(service, worker, seconds * 1_000, gone.signal)
  response.off('close', onClose)
  socket.off('end', onClose)
  const headers = seconds > 0 ? { 'preference-applied': `wait=${seconds}` } : {}
  if (!claim) return { status: 204, headers }
  const { job, lease } = claim
  // If the worker has not got the whole answer, the next worker may have the job now, before the lease is over.
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
      links: { self: `${call.baseUrl}/jobs/${id}` },
    },
  }
}
