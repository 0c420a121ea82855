/** Calls about one pod. It is created once, and no other pod is deleted, even if the answer to a call gets lost. */
import type { V1Pod } from '@kubernetes/client-node'
import type { EngineCallOptions } from '../shared/engine-caller.ts'
import { type KubernetesApi, kubernetesStatusOf } from './api.ts'
import { INSTANCE_LABEL, SESSION_LABEL } from './names.ts'

export interface PodRequest {
  readonly api: KubernetesApi
  readonly namespace: string
  readonly manifest: V1Pod
}

export async function createPod(request: PodRequest, options: EngineCallOptions): Promise<V1Pod> {
  const { api, namespace, manifest } = request
  try {
    return await api.call(
      'create a pod',
      // Not cut when the start is given up, because then it must be known whether there is a pod to delete.
      ({ core, options }) => core.createNamespacedPod({ namespace, body: manifest }, options),
      options,
    )
  } catch (error) {
    if (kubernetesStatusOf(error) !== 409) throw error
    // The name is taken: by our own first try, if its answer was lost.
    const known = await readPod(request, options)
    const instance = manifest.metadata?.annotations?.[INSTANCE_LABEL]
    const isOurs =
      isSameSession(request, known) && known.metadata?.annotations?.[INSTANCE_LABEL] === instance
    if (!isOurs) throw error
    return known
  }
}

/** The uid of the pod; undefined if there is no such pod of our session. */
export async function findPodUid(
  request: PodRequest,
  retryMs: number,
): Promise<string | undefined> {
  try {
    const known = await readPod(request, { retryMs })
    return isSameSession(request, known) ? known.metadata?.uid : undefined
  } catch {
    return undefined
  }
}

/** Whether there was a pod to delete. With `uid`, another pod of the same name is left alone. */
export async function deletePod(
  { api, namespace, manifest }: PodRequest,
  uid: string | undefined,
  { seconds, ...callOptions }: EngineCallOptions & { readonly seconds: number },
): Promise<boolean> {
  const name = manifest.metadata?.name as string
  const body = {
    gracePeriodSeconds: seconds,
    ...(uid !== undefined && { preconditions: { uid } }),
  }
  try {
    await api.call(
      'delete a pod',
      ({ core, options }) => core.deleteNamespacedPod({ namespace, name, body }, options),
      callOptions,
    )
    return true
  } catch (error) {
    const status = kubernetesStatusOf(error)
    if (status === 404 || status === 409) return false
    throw error
  }
}

function readPod(
  { api, namespace, manifest }: PodRequest,
  options: EngineCallOptions,
): Promise<V1Pod> {
  const name = manifest.metadata?.name as string
  return api.call(
    'look at a pod',
    ({ core, options }) => core.readNamespacedPod({ namespace, name }, options),
    options,
  )
}

function isSameSession({ manifest }: PodRequest, { metadata }: V1Pod): boolean {
  return metadata?.labels?.[SESSION_LABEL] === manifest.metadata?.labels?.[SESSION_LABEL]
}
