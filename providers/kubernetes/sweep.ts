/** Deletes the pods that killed sessions left. An annotation of each pod names the process of its session. */
import type { V1Pod } from '@kubernetes/client-node'
import { isOrphan, removeAll, type SelfIdentity } from '../shared/orphans.ts'
import type { KubernetesApi } from './api.ts'
import { listPods } from './list-pods.ts'
import { OWNER_ANNOTATION, SESSION_LABEL } from './names.ts'
import { deletePod } from './pod-requests.ts'

export async function sweepPods(
  api: KubernetesApi,
  namespace: string,
  self: SelfIdentity,
): Promise<void> {
  const orphans: V1Pod[] = []
  await listPods(api, { namespace, selector: SESSION_LABEL }, (pod) => {
    if (isOrphanPod(pod, self)) orphans.push(pod)
  })
  await removeAll(orphans, (manifest) =>
    deletePod({ api, namespace, manifest }, manifest.metadata?.uid, { seconds: 1 }),
  )
}

/** Whether the session of a pod has ended. A pod that is being deleted already is no orphan. */
export function isOrphanPod({ metadata }: V1Pod, self: SelfIdentity): boolean {
  const session = metadata?.labels?.[SESSION_LABEL]
  const owner = metadata?.annotations?.[OWNER_ANNOTATION] ?? ''
  return !metadata?.deletionTimestamp && isOrphan({ session, owner }, self)
}
