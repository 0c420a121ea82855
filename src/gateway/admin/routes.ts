/** Every route: what it answers, and what the OpenAPI document says of it. */
import type { Answer } from './call.ts'
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
import { OPENMETRICS_TYPE, openMetrics, wantsOpenMetrics } from './metrics.ts'
import { openApi } from './openapi.ts'
import { json } from './reply.ts'

export interface Route {
  readonly method: 'GET' | 'PUT' | 'POST'
  /** `{variables}` are one segment each. */
  readonly path: string
  readonly answer: Answer
  readonly summary: string
  readonly id: string
  /** Asked for without a token. */
  readonly isOpen?: boolean
  readonly query?: readonly ('follow' | 'lines' | 'wait')[]
  /** Name of the schema of the body that it takes. */
  readonly takes?: string
  readonly success: 200 | 202
  /** Name of the schema of its answer, or the media type of one that is no JSON. */
  readonly gives: string
  readonly failures?: readonly number[]
}

const metrics: Answer = async ({ admin, request }) => {
  const registry = admin.metrics
  if (wantsOpenMetrics(request.headers.accept)) {
    return { status: 200, type: OPENMETRICS_TYPE, body: await openMetrics(registry) }
  }
  return {
    status: 200,
    type: 'text/plain; version=0.0.4; charset=utf-8',
    body: await registry.metrics(),
  }
}

const events: Answer = ({ admin, request, response }) =>
  admin.outflows.open(request, response, 'text/event-stream', (outflow) => admin.hub.join(outflow))

const openapi: Answer = ({ admin }) => json(200, openApi(ROUTES, admin.version))

const CLUSTER = '/api/clusters/{name}'
const INSTANCE = `${CLUSTER}/instances/{id}`

// biome-ignore format: a table
export const ROUTES: readonly Route[] = [
  { method: 'GET', path: '/metrics', answer: metrics, id: 'metrics', success: 200, gives: 'text/plain',
    summary: 'Figures for Prometheus, in its text format or in OpenMetrics' },
  { method: 'GET', path: '/livez', answer: livez, id: 'livez', isOpen: true, success: 200, gives: 'Status',
    summary: 'Whether the process lives' },
  { method: 'GET', path: '/readyz', answer: readyz, id: 'readyz', isOpen: true, success: 200, gives: 'Status', failures: [503],
    summary: 'Whether each service that wants instances has a ready one' },
  { method: 'GET', path: '/api/clusters', answer: listClusters, id: 'listClusters', success: 200, gives: 'Clusters',
    summary: 'All clusters and their instances' },
  { method: 'GET', path: CLUSTER, answer: showCluster, id: 'showCluster', success: 200, gives: 'Cluster', failures: [404],
    summary: 'One cluster and its instances' },
  { method: 'PUT', path: `${CLUSTER}/size`, answer: setSize, id: 'setSize', takes: 'Size', success: 200, gives: 'Cluster', failures: [400, 404, 413, 503],
    summary: 'Sets how many instances are wanted, in place of the size or load balancer that it has' },
  { method: 'POST', path: `${CLUSTER}/restart`, answer: restartCluster, id: 'restartCluster', query: ['wait'], success: 202, gives: 'Cluster', failures: [404, 503],
    summary: 'Replaces all instances, each by one that is ready before it goes' },
  { method: 'GET', path: `${CLUSTER}/logs`, answer: clusterLogs, id: 'clusterLogs', query: ['follow', 'lines'], success: 200, gives: 'text/plain', failures: [404],
    summary: 'What all its instances wrote last, each line after its instance' },
  { method: 'POST', path: `${INSTANCE}/drain`, answer: drainInstance, id: 'drainInstance', success: 202, gives: 'Cluster', failures: [404],
    summary: 'Lets an instance end what it serves, and stops it; another takes its place if one is wanted' },
  { method: 'POST', path: `${INSTANCE}/restart`, answer: restartInstance, id: 'restartInstance', query: ['wait'], success: 202, gives: 'Cluster', failures: [404, 503],
    summary: 'Replaces an instance by one that is ready before it goes' },
  { method: 'GET', path: `${INSTANCE}/logs`, answer: instanceLogs, id: 'instanceLogs', query: ['follow', 'lines'], success: 200, gives: 'text/plain', failures: [404],
    summary: 'What an instance wrote last' },
  { method: 'GET', path: '/api/events', answer: events, id: 'events', success: 200, gives: 'text/event-stream',
    summary: 'Events as they happen (instance, cluster, request, resend, agent, task, error), each the JSON message that the feed has for it, and each second a snapshot of what has changed' },
  { method: 'GET', path: '/api/openapi.json', answer: openapi, id: 'openapi', success: 200, gives: 'Document',
    summary: 'This document' },
]
