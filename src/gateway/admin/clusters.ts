/** Routes of clusters and instances: show, resize, drain, restart, logs. */

import type { Cluster } from '../../cluster/cluster.ts'
import type { Instance } from '../../cluster/instance.ts'
import { ManyhostError } from '../../core/errors.ts'
import { wallClock } from '../../core/time.ts'
import { takeClusterSnapshot } from '../../session/snapshot.ts'
import {
  type AdminCall,
  type AdminRouteHandler,
  invalidQuery,
  parseCount,
  parseFlag,
} from './call.ts'
import { findCluster, findInstance, shortestNames } from './cluster-names.ts'
import { readJsonBody } from './json-body.ts'
import { clusterLog, followCluster, followInstance, lastLines } from './logs.ts'
import { type AdminReply, httpProblemReply, jsonReply, textReply } from './reply.ts'

export const listClusters: AdminRouteHandler = ({ admin }) => {
  const { clusters } = admin.session
  const names = shortestNames(clusters)
  const all = clusters.map((cluster) => ({
    name: names.get(cluster.url),
    ...takeClusterSnapshot(cluster),
  }))
  return jsonReply(200, { at: wallClock(), clusters: all })
}

export const showCluster: AdminRouteHandler = (call) =>
  clusterReply(200, call, requestedCluster(call))

export const setSize: AdminRouteHandler = async (call) => {
  const cluster = requestedCluster(call)
  const { size, ...rest } = await readJsonBody(call.request)
  const [unknown] = Object.keys(rest)
  if (unknown !== undefined)
    throw invalidQuery(`body: unknown option ${JSON.stringify(unknown)}; known: size`)
  // `session.setSize` accepts more, such as functions and texts. Here a "3" is a mistake.
  if (!isInstanceCount(size)) {
    const text = `size: expected a whole number from 0 up, got ${JSON.stringify(size)?.slice(0, 100) ?? 'nothing'}`
    throw new ManyhostError('MANYHOST_INVALID_SIZE', text, { service: cluster.url })
  }
  // The cluster of that name may have been replaced while the body was read.
  call.admin.session.setSize(cluster.url, size)
  return clusterReply(200, call, requestedCluster(call))
}

export const restartCluster: AdminRouteHandler = (call) =>
  restartReply(call, requestedCluster(call))

export const restartInstance: AdminRouteHandler = (call) =>
  withInstance(call, (cluster, { id }) => restartReply(call, cluster, id))

export const drainInstance: AdminRouteHandler = (call) =>
  withInstance(call, (cluster, { id }) => {
    cluster.drain(id)
    return clusterReply(202, call, cluster)
  })

export const clusterLogs: AdminRouteHandler = (call) => {
  const cluster = requestedCluster(call)
  const lines = parseCount(call, 'lines')
  if (!parseFlag(call, 'follow')) return textReply(clusterLog(cluster, lines))
  const { streams, session } = call.admin
  return streams.open(call.request, call.response, LOG_TYPE, (writer) =>
    followCluster(session, cluster, writer, lines),
  )
}

export const instanceLogs: AdminRouteHandler = (call) =>
  withInstance(call, (_cluster, instance) => {
    const lines = parseCount(call, 'lines')
    if (!parseFlag(call, 'follow')) return textReply(lastLines(instance.output.text(), lines))
    const { streams, session } = call.admin
    return streams.open(call.request, call.response, LOG_TYPE, (writer) =>
      followInstance(session, instance, writer, lines),
    )
  })

function isInstanceCount(size: unknown): size is number {
  return Number.isSafeInteger(size) && (size as number) >= 0
}

const LOG_TYPE = 'text/plain; charset=utf-8'

function requestedCluster({ admin, params }: AdminCall): Cluster {
  return findCluster(admin.session, params.name ?? '')
}

function clusterReply(status: number, { admin }: AdminCall, cluster: Cluster): AdminReply {
  const name = shortestNames(admin.session.clusters).get(cluster.url) ?? cluster.url
  return jsonReply(status, { name, ...takeClusterSnapshot(cluster) })
}

type InstanceAction = (cluster: Cluster, instance: Instance) => ReturnType<AdminRouteHandler>

function withInstance(call: AdminCall, act: InstanceAction): ReturnType<AdminRouteHandler> {
  const cluster = requestedCluster(call)
  const id = call.params.id ?? ''
  const instance = findInstance(cluster, id)
  return instance
    ? act(cluster, instance)
    : httpProblemReply(404, `${cluster.url} has no instance ${id}`)
}

/** Answered at once, or with `wait` when all are replaced or one could not be. */
async function restartReply(call: AdminCall, cluster: Cluster, id?: string): Promise<AdminReply> {
  const isAwaited = parseFlag(call, 'wait')
  const done = call.admin.restarts.start(cluster, id)
  if (isAwaited) await done
  return clusterReply(isAwaited ? 200 : 202, call, cluster)
}
