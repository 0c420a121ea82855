/** One ready pod of a workload, used as an instance. Nothing is started in it, and it may serve on afterwards. */
import type { V1Pod } from '@kubernetes/client-node'
import { deferred } from '../../src/core/deferred.ts'
import type { Exit, Running, StartSpec } from '../../src/core/provider.ts'
import { resolveWithin } from '../../src/core/time.ts'
import { InstanceLifecycle } from '../shared/instance-lifecycle.ts'
import type { PodConnection } from './pod-connection.ts'
import { exitOfPod, isPodReady, leavingReason } from './pod-status.ts'

/** How long the cluster may take to remove a pod that is one too many, in ms. */
const GONE_TIMEOUT = 60_000

export class ScaledPodInstance implements Running {
  readonly address: string
  /** The pod as it was seen last; undefined when it is being deleted, or is gone. */
  lastSeen: V1Pod | undefined
  readonly #lifecycle: InstanceLifecycle
  readonly #connection: PodConnection
  readonly #uid: string | undefined
  readonly #releaseReplica: (hasEnded: boolean) => Promise<void>
  readonly #lost = deferred<void>()

  /** @param release makes the workload one replica smaller; `hasEnded` says that the pod has ended by itself */
  constructor(
    spec: StartSpec,
    connection: PodConnection,
    pod: V1Pod,
    release: (hasEnded: boolean) => Promise<void>,
  ) {
    this.#lifecycle = new InstanceLifecycle(spec)
    this.#connection = connection
    this.#uid = pod.metadata?.uid
    this.#releaseReplica = release
    this.lastSeen = pod
    this.address = connection.address
  }

  get dispatcher(): PodConnection['pool'] {
    return this.#connection.pool
  }

  get exited(): Promise<Exit> {
    return this.#lifecycle.exited
  }

  get leaving(): Promise<string> {
    return this.#lifecycle.leaving
  }

  get gone(): Promise<void> {
    return this.#lifecycle.gone
  }

  accepts(signal: AbortSignal): Promise<void> {
    return this.#connection.accepts(signal)
  }

  onPod(pod: V1Pod): void {
    if (pod.metadata?.uid !== this.#uid) return this.onPodGone()
    this.lastSeen = pod
    const leaving = leavingReason(pod)
    if (pod.metadata?.deletionTimestamp) {
      this.lastSeen = undefined
      this.#lost.resolve()
    }
    if (leaving) this.#lifecycle.announceLeaving(leaving)
    const container = pod.spec?.containers[0]?.name ?? ''
    const exit = exitOfPod(pod, container, undefined)
    if (exit) this.#end(exit)
    // A container that is restarted in its pod is not ready meanwhile: no request must go to it.
    else if (!leaving && !isPodReady(pod))
      this.#end({ reason: 'lost', detail: 'its pod is not ready' })
  }

  onPodGone(): void {
    this.lastSeen = undefined
    this.#lost.resolve()
    this.#end({ reason: 'lost', detail: 'its pod was deleted' })
  }

  #end(exit: Exit): void {
    if (this.#lifecycle.state !== 'up') return
    this.#settleExit(exit)
    void this.#releaseReplica(true).finally(() => this.#lifecycle.markGone())
  }

  /** Makes the workload one replica smaller. The cluster chooses which pod goes. */
  stop(grace: number): Promise<void> {
    if (this.#lifecycle.requestStop()) void this.#releaseAndWait(grace)
    return this.gone
  }

  async #releaseAndWait(grace: number): Promise<void> {
    await this.#releaseReplica(false)
    await resolveWithin(Math.min(grace, GONE_TIMEOUT), this.#lost.promise)
    this.#settleExit({ reason: 'stopped', detail: 'stopped' })
    this.#lifecycle.markGone()
  }

  /** Ends the instance, and leaves the pod as it is. */
  release(): void {
    if (this.#lifecycle.requestStop()) this.#settleExit({ reason: 'stopped', detail: 'stopped' })
    this.#lifecycle.markGone()
  }

  #settleExit(exit: Exit): void {
    this.#lifecycle.markEnded(exit, (error) =>
      this.#connection.pool.destroy(error).catch(() => undefined),
    )
  }
}
