/** Whether this process lives, and whether its services can be used. Probes have no token: they learn yes or no. */
import type { Cluster } from '../../cluster/cluster.ts'
import type { Answer } from './call.ts'
import { json, problem } from './reply.ts'

export const livez: Answer = () => json(200, { status: 'live' })

export const readyz: Answer = ({ admin, isTrusted }) => {
  const { session, isReady } = admin
  const reasons = session.clusters.filter(isWanting).map((cluster) => explained(cluster))
  if (session.isClosed) reasons.unshift('the session is closing')
  else if (!isReady()) reasons.unshift('the gateway is not open')
  if (reasons.length === 0) return json(200, { status: 'ready' })
  const told = isTrusted ? reasons.slice(0, REASONS) : []
  return problem(503, `not ready: ${counted(reasons.length)}`, isTrusted ? { reasons: told } : {})
}

const REASONS = 100

function isWanting({ size, instances }: Cluster): boolean {
  return size > 0 && !instances.some(({ state }) => state === 'ready')
}

function explained(cluster: Cluster): string {
  return `${cluster.url}: ${cluster.explain().split('\n', 1)[0]}`
}

function counted(reasons: number): string {
  return reasons === 1 ? '1 reason' : `${reasons} reasons`
}
