/** Deletes what sessions left that were killed: their pods, which carry the name of their process. */
import type { V1Pod } from '@kubernetes/client-node'
import { isDead } from '../docker/labels.ts'
import { type Api, statusOf } from './api.ts'
import { OWNER, SESSION } from './names.ts'

/** Deletions at a time. */
const LANES = 8
/** Pods a page. */
const PAGE = 500

export interface Mine {
  readonly session: string
  /** The program's own name, where it has one. */
  readonly owner: string | undefined
}

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
    left.push(...page.items.filter((pod) => isLeft(pod, mine)))
    next = page.metadata?._continue
  } while (next)
  const lane = async (): Promise<void> => {
    for (let pod = left.pop(); pod; pod = left.pop()) await remove(api, namespace, pod)
  }
  await Promise.all(Array.from({ length: LANES }, lane))
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

/** Whether nobody looks after it any more. */
export function isLeft({ metadata }: V1Pod, { session, owner }: Mine): boolean {
  const its = metadata?.labels?.[SESSION]
  if (its === undefined || its === session || metadata?.deletionTimestamp) return false
  const name = metadata?.annotations?.[OWNER] ?? ''
  return (owner !== undefined && name === owner) || isDead(name)
}
