/** The routes of the admin API, with their entries in the OpenAPI document. */
import type { AdminRouteHandler } from './call.ts'
import {
  clusterLogs,
  drainInstance,
  instanceLogs,
  listClusters,
  restartCluster,
  restartInstance,
  setSize,
  showCluster,
} from './clusters.ts'
import { livez, readyz } from './health.ts'
import { buildOpenApi } from './openapi.ts'
import { OPENMETRICS_TYPE, renderOpenMetrics, wantsOpenMetrics } from './openmetrics.ts'
import { jsonReply } from './reply.ts'
import type { AdminRoute } from './route.ts'

const metrics: AdminRouteHandler = async ({ admin, request }) => {
  const registry = admin.metrics
  if (wantsOpenMetrics(request.headers.accept)) {
    return { status: 200, type: OPENMETRICS_TYPE, body: await renderOpenMetrics(registry) }
  }
  return {
    status: 200,
    type: 'text/plain; version=0.0.4; charset=utf-8',
    body: await registry.metrics(),
  }
}

const events: AdminRouteHandler = ({ admin, request, response }) =>
  admin.streams.open(request, response, 'text/event-stream', (writer) =>
    admin.events.addReader(writer),
  )

const openapi: AdminRouteHandler = ({ admin }) =>
  jsonReply(200, buildOpenApi(ADMIN_ROUTES, admin.version))

const CLUSTER = '/api/clusters/{name}'
const INSTANCE = `${CLUSTER}/instances/{id}`

// biome-ignore format: a table
export const ADMIN_ROUTES: readonly AdminRoute[] = [
  { method: 'GET', path: '/metrics', answer: metrics, id: 'metrics', success: 200, responseType: 'text/plain',
    summary: 'Figures for Prometheus, in its text format or in OpenMetrics' },
  { method: 'GET', path: '/livez', answer: livez, id: 'livez', needsNoToken: true, success: 200, responseType: 'Status',
    summary: 'Whether the process lives' },
  { method: 'GET', path: '/readyz', answer: readyz, id: 'readyz', needsNoToken: true, success: 200, responseType: 'Status', failures: [503],
    summary: 'Whether each service that wants instances has a ready one' },
  { method: 'GET', path: '/api/clusters', answer: listClusters, id: 'listClusters', success: 200, responseType: 'Clusters',
    summary: 'All clusters and their instances' },
  { method: 'GET', path: CLUSTER, answer: showCluster, id: 'showCluster', success: 200, responseType: 'Cluster', failures: [404],
    summary: 'One cluster and its instances' },
  { method: 'PUT', path: `${CLUSTER}/size`, answer: setSize, id: 'setSize', requestSchema: 'Size', success: 200, responseType: 'Cluster', failures: [400, 404, 413, 503],
    summary: 'Sets the number of wanted instances; it replaces the size or the load balancer of the cluster' },
  { method: 'POST', path: `${CLUSTER}/restart`, answer: restartCluster, id: 'restartCluster', query: ['wait'], success: 202, responseType: 'Cluster', failures: [404, 503],
    summary: 'Replaces all instances, each by a new one that is ready before the old one drains' },
  { method: 'GET', path: `${CLUSTER}/logs`, answer: clusterLogs, id: 'clusterLogs', query: ['follow', 'lines'], success: 200, responseType: 'text/plain', failures: [404],
    summary: 'The last output of all its instances, each line with its instance' },
  { method: 'POST', path: `${INSTANCE}/drain`, answer: drainInstance, id: 'drainInstance', success: 202, responseType: 'Cluster', failures: [404],
    summary: 'Drains an instance and stops it; a new one is started if the size asks for it' },
  { method: 'POST', path: `${INSTANCE}/restart`, answer: restartInstance, id: 'restartInstance', query: ['wait'], success: 202, responseType: 'Cluster', failures: [404, 503],
    summary: 'Replaces an instance by a new one that is ready before the old one drains' },
  { method: 'GET', path: `${INSTANCE}/logs`, answer: instanceLogs, id: 'instanceLogs', query: ['follow', 'lines'], success: 200, responseType: 'text/plain', failures: [404],
    summary: 'The last output of an instance' },
  { method: 'GET', path: '/api/events', answer: events, id: 'events', success: 200, responseType: 'text/event-stream',
    summary: 'Events as they happen (instance, cluster, request, resend, agent, task, error), each as the JSON message that the feed has for it, and every second a snapshot of what has changed' },
  { method: 'GET', path: '/api/openapi.json', answer: openapi, id: 'openapi', success: 200, responseType: 'Document',
    summary: 'This document' },
]
