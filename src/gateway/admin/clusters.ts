/** Clusters and instances: seen, resized, drained, restarted, listened to. */

import type { Cluster } from '../../cluster/cluster.ts'
import type { Instance } from '../../cluster/instance.ts'
import { ManyhostError } from '../../core/errors.ts'
import { wallClock } from '../../core/time.ts'
import { clusterSnapshot } from '../../session/snapshot.ts'
import { jsonBody } from './body.ts'
import { type Answer, type Call, count, flag, invalid } from './call.ts'
import { clusterText, followCluster, followInstance, lastLines } from './logs.ts'
import { findCluster, findInstance, names } from './names.ts'
import { json, problem, type Reply, text } from './reply.ts'

export const listClusters: Answer = ({ admin }) => {
  const { clusters } = admin.session
  const named = names(clusters)
  const all = clusters.map((cluster) => ({
    name: named.get(cluster.url),
    ...clusterSnapshot(cluster),
  }))
  return json(200, { at: wallClock(), clusters: all })
}

export const showCluster: Answer = (call) => shown(200, call, clusterOf(call))

export const setSize: Answer = async (call) => {
  const cluster = clusterOf(call)
  const { size, ...rest } = await jsonBody(call.request)
  const [unknown] = Object.keys(rest)
  if (unknown !== undefined)
    throw invalid(`body: unknown option ${JSON.stringify(unknown)}; known: size`)
  // Programs may give other sizes, such as functions; here a "3" is a slip.
  if (!isCount(size)) {
    const text = `size: expected a whole number from 0 up, got ${JSON.stringify(size)?.slice(0, 100) ?? 'nothing'}`
    throw new ManyhostError('MANYHOST_INVALID_SIZE', text, { service: cluster.url })
  }
  // The cluster of that name may be another one since the body has come.
  call.admin.session.setSize(cluster.url, size)
  return shown(200, call, clusterOf(call))
}

export const restartCluster: Answer = (call) => restarted(call, clusterOf(call))

export const restartInstance: Answer = (call) =>
  ofInstance(call, (cluster, { id }) => restarted(call, cluster, id))

export const drainInstance: Answer = (call) =>
  ofInstance(call, (cluster, { id }) => {
    cluster.drain(id)
    return shown(202, call, cluster)
  })

export const clusterLogs: Answer = (call) => {
  const cluster = clusterOf(call)
  const lines = count(call, 'lines')
  if (!flag(call, 'follow')) return text(clusterText(cluster, lines))
  const { outflows, session } = call.admin
  return outflows.open(call.request, call.response, LOG_TYPE, (outflow) =>
    followCluster(session, cluster, outflow, lines),
  )
}

export const instanceLogs: Answer = (call) =>
  ofInstance(call, (_cluster, instance) => {
    const lines = count(call, 'lines')
    if (!flag(call, 'follow')) return text(lastLines(instance.output.text(), lines))
    const { outflows, session } = call.admin
    return outflows.open(call.request, call.response, LOG_TYPE, (outflow) =>
      followInstance(session, instance, outflow, lines),
    )
  })

function isCount(size: unknown): size is number {
  return Number.isSafeInteger(size) && (size as number) >= 0
}

const LOG_TYPE = 'text/plain; charset=utf-8'

function clusterOf({ admin, params }: Call): Cluster {
  return findCluster(admin.session, params.name ?? '')
}

function shown(status: number, { admin }: Call, cluster: Cluster): Reply {
  const name = names(admin.session.clusters).get(cluster.url) ?? cluster.url
  return json(status, { name, ...clusterSnapshot(cluster) })
}

type OnInstance = (cluster: Cluster, instance: Instance) => ReturnType<Answer>

function ofInstance(call: Call, act: OnInstance): ReturnType<Answer> {
  const cluster = clusterOf(call)
  const id = call.params.id ?? ''
  const instance = findInstance(cluster, id)
  return instance ? act(cluster, instance) : problem(404, `${cluster.url} has no instance ${id}`)
}

/** Answered at once, or with `wait` when all are replaced or one could not be. */
async function restarted(call: Call, cluster: Cluster, id?: string): Promise<Reply> {
  const isAwaited = flag(call, 'wait')
  const done = call.admin.restarts.begin(cluster, id)
  if (isAwaited) await done
  return shown(isAwaited ? 200 : 202, call, cluster)
}
