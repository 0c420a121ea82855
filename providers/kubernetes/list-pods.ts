/** Lists of pods, page by page. */
import type { V1Pod } from '@kubernetes/client-node'
import type { EngineCallOptions } from '../shared/engine-caller.ts'
import type { KubernetesApi } from './api.ts'

/** Number of pods on one page. */
const PAGE_SIZE = 500

/**
 * Calls `onPod` for each pod that the selector finds, as the pages come.
 * @returns the resource version of the list
 */
export async function listPods(
  api: KubernetesApi,
  { namespace, selector }: { readonly namespace: string; readonly selector: string },
  onPod: (pod: V1Pod) => void,
  callOptions: EngineCallOptions = {},
): Promise<string> {
  let version = ''
  let next: string | undefined
  do {
    const page = await api.call(
      'list pods',
      ({ core, options }) =>
        core.listNamespacedPod(
          {
            namespace,
            labelSelector: selector,
            limit: PAGE_SIZE,
            ...(next && { _continue: next }),
          },
          options,
        ),
      callOptions,
    )
    version = page.metadata?.resourceVersion ?? ''
    next = page.metadata?._continue
    for (const pod of page.items) onPod(pod)
  } while (next)
  return version
}
