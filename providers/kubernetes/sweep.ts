/** Deletes what sessions left that were killed: their pods, which carry the name of their process. */
import type { V1Pod } from '@kubernetes/client-node'
import { isLeft, type Mine, removeAll } from '../owner.ts'
import { type Api, statusOf } from './api.ts'
import { OWNER, SESSION } from './names.ts'

/** Pods a page. */
const PAGE = 500

export async function sweep(api: Api, namespace: string, mine: Mine): Promise<void> {
  const left: V1Pod[] = []
  let next: string | undefined
  do {
    const page = await api.call('list pods', ({ core, options }) =>
      core.listNamespacedPod(
        { namespace, labelSelector: SESSION, limit: PAGE, ...(next && { _continue: next }) },
        options,
      ),
    )
    left.push(...page.items.filter((pod) => isOrphan(pod, mine)))
    next = page.metadata?._continue
  } while (next)
  await removeAll(left, (pod) => remove(api, namespace, pod))
}

async function remove(api: Api, namespace: string, { metadata }: V1Pod): Promise<void> {
  const { name = '', uid } = metadata ?? {}
  const body = { gracePeriodSeconds: 1, ...(uid && { preconditions: { uid } }) }
  try {
    await api.call('delete a pod', ({ core, options }) =>
      core.deleteNamespacedPod({ namespace, name, body }, options),
    )
  } catch (error) {
    const status = statusOf(error)
    if (status !== 404 && status !== 409) throw error
  }
}

/** Whether nobody looks after it any more; one that is being deleted needs nobody. */
export function isOrphan({ metadata }: V1Pod, mine: Mine): boolean {
  const session = metadata?.labels?.[SESSION]
  const owner = metadata?.annotations?.[OWNER] ?? ''
  return !metadata?.deletionTimestamp && isLeft({ session, owner }, mine)
}
