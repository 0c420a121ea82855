/** Names of clusters in paths: the host of the virtual URL, or the whole URL if several clusters have that host. */

import type { Cluster } from '../../cluster/cluster.ts'
import type { Instance } from '../../cluster/instance.ts'
import { ManyhostError } from '../../core/errors.ts'
import type { SessionCore } from '../../session/session.ts'

function hostOfUrl(url: string): string {
  return new URL(url).host
}

/** The shortest unambiguous name of each cluster, by URL. */
export function shortestNames(all: readonly { readonly url: string }[]): Map<string, string> {
  const counts = new Map<string, number>()
  for (const { url } of all) counts.set(hostOfUrl(url), (counts.get(hostOfUrl(url)) ?? 0) + 1)
  return new Map(
    all.map(({ url }) => [url, (counts.get(hostOfUrl(url)) ?? 0) > 1 ? url : hostOfUrl(url)]),
  )
}

/** @throws ManyhostError MANYHOST_UNKNOWN_SERVICE, MANYHOST_INVALID_URL */
export function findCluster(session: SessionCore, name: string): Cluster {
  if (name.includes('://')) return session.cluster(name)
  const host = name.toLowerCase()
  const found = session.clusters.filter(({ url }) => hostOfUrl(url) === host)
  if (found.length === 1) return found[0] as Cluster
  const urls = (found.length > 1 ? found : session.clusters).slice(0, 20).map(({ url }) => url)
  const reason = found.length > 1 ? `${name} can mean` : `no service is named ${name}; known:`
  throw new ManyhostError('MANYHOST_UNKNOWN_SERVICE', `${reason} ${urls.join(', ') || 'none'}`)
}

export function findInstance(cluster: Cluster, id: string): Instance | undefined {
  return cluster.instances.find((instance) => instance.id === id)
}
