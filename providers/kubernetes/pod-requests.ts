/** A pod in the cluster's books: entered once, and taken out by nobody's mistake, whatever answers get lost on the way. */
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
      // Not cut when it is given up: whoever gives up has to know whether there is a pod.
      ({ core, options }) => core.createNamespacedPod({ namespace, body: manifest }, options),
      options,
    )
  } catch (error) {
    if (kubernetesStatusOf(error) !== 409) throw error
    // The name is taken: by our own first try, whose answer was lost.
    const known = await readPod(request, options)
    const instance = manifest.metadata?.annotations?.[INSTANCE_LABEL]
    const isMine =
      isSameSession(request, known) && known.metadata?.annotations?.[INSTANCE_LABEL] === instance
    if (!isMine) throw error
    return known
  }
}

/** Its uid, where there is such a pod of ours. */
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

/** Whether there was anything to delete: no other pod of that name is. */
export async function deletePod(
  { api, namespace, manifest }: PodRequest,
  uid: string | undefined,
  { seconds, retryMs }: { readonly seconds: number; readonly retryMs: number },
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
      { retryMs },
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
