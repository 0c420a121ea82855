/** What a pod's status says, as the cluster writes it: whether it runs, why it does not, and why it ended. */
import type { V1ContainerStatus, V1Pod } from '@kubernetes/client-node'
import type { Exit } from '../../src/core/provider.ts'
import { exitOfCode } from '../shared/exit.ts'

/** Waiting for these is waiting for ever: the cluster tries again and again what somebody has to mend. */
const PERMANENT_WAIT_REASONS = new Set([
  'ImagePullBackOff',
  'InvalidImageName',
  'ErrImageNeverPull',
  'CreateContainerConfigError',
  'CreateContainerError',
])

/** Why it ended, or undefined while it has not. */
export function exitOfPod(
  pod: V1Pod,
  container: string,
  memory: number | undefined,
): Exit | undefined {
  const { status = {}, spec } = pod
  const { phase, reason, message } = status
  const said = [reason, message].filter(Boolean).join(': ')
  // Evicted, Preempting, Shutdown, NodeLost: by the cluster, whatever the process made of it.
  if (phase === 'Failed' && reason)
    return { reason: 'lost', detail: `its node gave it up: ${said}` }
  const terminated = containerStatusOf(pod, container)?.state?.terminated
  if (terminated) {
    const { exitCode, reason: why, message: more } = terminated
    const limit = memory === undefined ? '' : `, limit ${memory} bytes`
    if (why === 'OOMKilled') {
      return { reason: 'out-of-memory', detail: `out of memory (exit code ${exitCode}${limit})` }
    }
    const exit = exitOfCode(terminated.signal ? 128 + terminated.signal : exitCode)
    if (exit.reason === 'killed' || !more) return exit
    return { ...exit, detail: `${exit.detail}: ${more.trim().slice(0, 500)}` }
  }
  if (phase === 'Failed' || phase === 'Succeeded') {
    return { reason: 'lost', detail: `the pod is ${phase}, and nobody knows why` }
  }
  if (isNodeLost(pod) && !spec?.readinessGates?.length) {
    return { reason: 'lost', detail: `its node ${spec?.nodeName ?? ''} does not answer` }
  }
  return undefined
}

/** Of a node that has gone silent, the cluster takes its pods' readiness back, and the containers' status stays. */
function isNodeLost({ status }: V1Pod): boolean {
  const ready = status?.conditions?.find(({ type }) => type === 'Ready')
  const containers = status?.conditions?.find(({ type }) => type === 'ContainersReady')
  if (ready?.status !== 'False' || ready.reason === 'ContainersNotReady') return false
  return (
    ready.reason === 'NodeNotReady' ||
    (containers?.status === 'True' && ready.reason !== 'ReadinessGatesNotReady')
  )
}

/** Why it will be lost soon: somebody has asked for its end, and it may still finish what it is at. */
export function leavingReason(pod: V1Pod): string | undefined {
  if (pod.metadata?.deletionTimestamp) return 'its pod is being deleted'
  const doomed = pod.status?.conditions?.find(({ type }) => type === 'DisruptionTarget')
  return doomed?.status === 'True'
    ? `its pod is about to go: ${doomed.reason ?? 'disruption'}`
    : undefined
}

/** Why it will not start, or undefined while there is hope. */
export function permanentWaitReason(pod: V1Pod, container: string): string | undefined {
  const waiting = containerStatusOf(pod, container)?.state?.waiting
  if (!waiting?.reason || !PERMANENT_WAIT_REASONS.has(waiting.reason)) return undefined
  return [waiting.reason, waiting.message].filter(Boolean).join(': ').slice(0, 1_000)
}

/** What it waits for, for people. */
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
