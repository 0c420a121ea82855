/** Liveness and readiness probes. A caller without the token learns only yes or no, without the reasons. */
import type { Cluster } from '../../cluster/cluster.ts'
import type { AdminRouteHandler } from './call.ts'
import { httpProblemReply, jsonReply } from './reply.ts'

export const livez: AdminRouteHandler = () => jsonReply(200, { status: 'live' })

export const readyz: AdminRouteHandler = ({ admin, isTrusted }) => {
  const { session, isReady } = admin
  const reasons = session.clusters
    .filter(lacksReadyInstance)
    .map((cluster) => explainCluster(cluster))
  if (session.isClosed) reasons.unshift('the session is closing')
  else if (!isReady()) reasons.unshift('the gateway is not open')
  if (reasons.length === 0) return jsonReply(200, { status: 'ready' })
  return httpProblemReply(
    503,
    `not ready: ${formatCount(reasons.length)}`,
    isTrusted ? { reasons: reasons.slice(0, MAX_REASONS) } : {},
  )
}

const MAX_REASONS = 100

function lacksReadyInstance({ size, instances }: Cluster): boolean {
  return size > 0 && !instances.some(({ state }) => state === 'ready')
}

function explainCluster(cluster: Cluster): string {
  return `${cluster.url}: ${cluster.describeState().split('\n', 1)[0]}`
}

function formatCount(reasons: number): string {
  return reasons === 1 ? '1 reason' : `${reasons} reasons`
}
