/** Deletes what sessions left that were killed: their pods, which carry the name of their process. */
import type { V1Pod } from '@kubernetes/client-node'
import { isOrphan, removeAll, type SelfIdentity } from '../shared/orphans.ts'
import { type KubernetesApi, kubernetesStatusOf } from './api.ts'
import { OWNER_ANNOTATION, SESSION_LABEL } from './names.ts'

/** Pods a page. */
const PAGE_SIZE = 500

export async function sweepPods(
  api: KubernetesApi,
  namespace: string,
  self: SelfIdentity,
): Promise<void> {
  const left: V1Pod[] = []
  let next: string | undefined
  do {
    const page = await api.call('list pods', ({ core, options }) =>
      core.listNamespacedPod(
        {
          namespace,
          labelSelector: SESSION_LABEL,
          limit: PAGE_SIZE,
          ...(next && { _continue: next }),
        },
        options,
      ),
    )
    left.push(...page.items.filter((pod) => isOrphanPod(pod, self)))
    next = page.metadata?._continue
  } while (next)
  await removeAll(left, (pod) => deleteOrphan(api, namespace, pod))
}

async function deleteOrphan(
  api: KubernetesApi,
  namespace: string,
  { metadata }: V1Pod,
): Promise<void> {
  const { name = '', uid } = metadata ?? {}
  const body = { gracePeriodSeconds: 1, ...(uid && { preconditions: { uid } }) }
  try {
    await api.call('delete a pod', ({ core, options }) =>
      core.deleteNamespacedPod({ namespace, name, body }, options),
    )
  } catch (error) {
    const status = kubernetesStatusOf(error)
    if (status !== 404 && status !== 409) throw error
  }
}

/** Whether nobody looks after it any more; one that is being deleted needs nobody. */
export function isOrphanPod({ metadata }: V1Pod, self: SelfIdentity): boolean {
  const session = metadata?.labels?.[SESSION_LABEL]
  const owner = metadata?.annotations?.[OWNER_ANNOTATION] ?? ''
  return !metadata?.deletionTimestamp && isOrphan({ session, owner }, self)
}
