/** A pod in the cluster's books: entered once, and taken out by nobody's mistake, whatever answers get lost on the way. */
import type { V1Pod } from '@kubernetes/client-node'
import type { CallOptions } from '../away.ts'
import { type Api, statusOf } from './api.ts'
import { INSTANCE, SESSION } from './names.ts'

export interface Entry {
  readonly api: Api
  readonly namespace: string
  readonly manifest: V1Pod
}

export async function create(entry: Entry, options: CallOptions): Promise<V1Pod> {
  const { api, namespace, manifest } = entry
  try {
    return await api.call(
      'create a pod',
      // Not cut when it is given up: whoever gives up has to know whether there is a pod.
      ({ core, options }) => core.createNamespacedPod({ namespace, body: manifest }, options),
      options,
    )
  } catch (error) {
    if (statusOf(error) !== 409) throw error
    // The name is taken: by our own first try, whose answer was lost.
    const known = await read(entry, options)
    const instance = manifest.metadata?.annotations?.[INSTANCE]
    const isMine = isOf(entry, known) && known.metadata?.annotations?.[INSTANCE] === instance
    if (!isMine) throw error
    return known
  }
}

/** Its uid, where there is such a pod of ours. */
export async function find(entry: Entry, patience: number): Promise<string | undefined> {
  try {
    const known = await read(entry, { patience })
    return isOf(entry, known) ? known.metadata?.uid : undefined
  } catch {
    return undefined
  }
}

/** Whether there was anything to delete: no other pod of that name is. */
export async function remove(
  { api, namespace, manifest }: Entry,
  uid: string | undefined,
  { seconds, patience }: { readonly seconds: number; readonly patience: number },
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
      { patience },
    )
    return true
  } catch (error) {
    const status = statusOf(error)
    if (status === 404 || status === 409) return false
    throw error
  }
}

function read({ api, namespace, manifest }: Entry, options: CallOptions): Promise<V1Pod> {
  const name = manifest.metadata?.name as string
  return api.call(
    'look at a pod',
    ({ core, options }) => core.readNamespacedPod({ namespace, name }, options),
    options,
  )
}

function isOf({ manifest }: Entry, { metadata }: V1Pod): boolean {
  return metadata?.labels?.[SESSION] === manifest.metadata?.labels?.[SESSION]
}
