/** Reads the status of a pod: whether it runs, why it does not, and why it has ended. */
import type { V1ContainerStatus, V1Pod } from '@kubernetes/client-node'
import type { Exit } from '../../src/core/provider.ts'
import { exitOfCode, outOfMemoryExit } from '../shared/exit.ts'

/** Waiting reasons that do not go away by themselves: the cluster tries for ever, until somebody changes something. */
const PERMANENT_WAIT_REASONS = new Set([
  'ImagePullBackOff',
  'InvalidImageName',
  'ErrImageNeverPull',
  'CreateContainerConfigError',
  'CreateContainerError',
])

/** The end of a pod; undefined while it runs or starts. @param memory its limit in bytes */
export function exitOfPod(
  pod: V1Pod,
  container: string,
  memory: number | undefined,
): Exit | undefined {
  const { status = {}, spec } = pod
  const { phase, reason, message } = status
  // Evicted, Preempting, Shutdown, NodeLost: the cluster has ended the pod, whatever the exit code of its process is.
  if (phase === 'Failed' && reason) {
    const why = message ? `${reason}: ${message}` : reason
    return { reason: 'lost', detail: `its node ended it: ${why}` }
  }
  const terminated = containerStatusOf(pod, container)?.state?.terminated
  if (terminated) {
    const { exitCode, reason: why, message: more } = terminated
    if (why === 'OOMKilled') return outOfMemoryExit(exitCode, memory)
    const exit = exitOfCode(terminated.signal ? 128 + terminated.signal : exitCode)
    if (exit.reason === 'killed' || !more) return exit
    return { ...exit, detail: `${exit.detail}: ${more.trim().slice(0, 500)}` }
  }
  if (phase === 'Failed' || phase === 'Succeeded') {
    return { reason: 'lost', detail: `the pod is ${phase}, without a reason` }
  }
  if (isNodeLost(pod) && !spec?.readinessGates?.length) {
    return { reason: 'lost', detail: `its node ${spec?.nodeName ?? ''} does not answer` }
  }
  return undefined
}

/** When a node does not answer, its pods are not ready any more, while the status of their containers stays. */
function isNodeLost({ status }: V1Pod): boolean {
  const ready = status?.conditions?.find(({ type }) => type === 'Ready')
  const containers = status?.conditions?.find(({ type }) => type === 'ContainersReady')
  if (ready?.status !== 'False' || ready.reason === 'ContainersNotReady') return false
  return (
    ready.reason === 'NodeNotReady' ||
    (containers?.status === 'True' && ready.reason !== 'ReadinessGatesNotReady')
  )
}

/** Why the pod will be lost soon; undefined if it will not. Until then it may finish its requests. */
export function leavingReason(pod: V1Pod): string | undefined {
  if (pod.metadata?.deletionTimestamp) return 'its pod is being deleted'
  const disruption = pod.status?.conditions?.find(({ type }) => type === 'DisruptionTarget')
  return disruption?.status === 'True'
    ? `its pod is about to be removed: ${disruption.reason ?? 'disruption'}`
    : undefined
}

/** Why the container will never start; undefined if it may still start. */
export function permanentWaitReason(pod: V1Pod, container: string): string | undefined {
  const waiting = containerStatusOf(pod, container)?.state?.waiting
  if (!waiting?.reason || !PERMANENT_WAIT_REASONS.has(waiting.reason)) return undefined
  return [waiting.reason, waiting.message].filter(Boolean).join(': ').slice(0, 1_000)
}

/** Why no node runs the pod yet, as a text for people. */
export function unschedulableReason(pod: V1Pod): string | undefined {
  const scheduled = pod.status?.conditions?.find(({ type }) => type === 'PodScheduled')
  return scheduled?.status === 'False' ? (scheduled.message ?? scheduled.reason) : undefined
}

export function isContainerRunning(pod: V1Pod, container: string): boolean {
  return (
    containerStatusOf(pod, container)?.state?.running !== undefined && Boolean(pod.status?.podIP)
  )
}

export function isPodReady(pod: V1Pod): boolean {
  if (pod.metadata?.deletionTimestamp) return false
  return (
    pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ??
    false
  )
}

function containerStatusOf({ status }: V1Pod, container: string): V1ContainerStatus | undefined {
  return status?.containerStatuses?.find(({ name }) => name === container)
}
