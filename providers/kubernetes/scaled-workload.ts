/**
 * Uses the ready pods of a Deployment or StatefulSet as instances. One more instance is one more replica, and the cluster
 * chooses which pod comes or goes. The pods have their own command, image and port; nothing is started in them.
 */
import type { V1Pod } from '@kubernetes/client-node'
import { settleOrAbort } from '../../src/core/abort.ts'
import { deferred } from '../../src/core/deferred.ts'
import { ManyhostError } from '../../src/core/errors.ts'
import type { Capability, Provider, Running, StartSpec } from '../../src/core/provider.ts'
import { resolveWithin } from '../../src/core/time.ts'
import { createClosedError, KubernetesApi } from './api.ts'
import type { KubernetesSettings } from './options.ts'
import { connectToPod } from './pod-connection.ts'
import { PodEvents } from './pod-events.ts'
import { isPodReady } from './pod-status.ts'
import { ScaledPodInstance } from './scaled-pod-instance.ts'

interface ScaledWorkload {
  readonly kind: 'deployment' | 'statefulset'
  readonly name: string
}

interface ScaledWorkloadState {
  readonly namespace: string
  readonly events: PodEvents
  /** Number of replicas before the first change. */
  readonly initialReplicas: number
}

/** How long the first start waits for a watch of the pods, in ms. After that the watch is still tried in the background. */
const START_TIMEOUT = 30_000
/** How long `close` tries to set the number of replicas back, in ms. */
const CLOSE_TIMEOUT = 20_000

/** The annotation by which a ReplicaSet chooses the pods that go. Clusters know it from version 1.22 on. */
const DELETION_COST = 'controller.kubernetes.io/pod-deletion-cost'

export class ScaledWorkloadProvider implements Provider {
  readonly name = 'kubernetes'
  readonly capabilities: ReadonlySet<Capability> = new Set<Capability>()
  readonly #settings: KubernetesSettings
  readonly #workload: ScaledWorkload
  readonly #reach: 'pod-ip' | 'forward'
  readonly #api: KubernetesApi
  /** Ready pods that are not used as an instance. */
  readonly #freePods = new Map<string, V1Pod>()
  readonly #instances = new Map<string, ScaledPodInstance>()
  /** Starts that wait for a ready pod. */
  readonly #waiting: ((pod: V1Pod) => void)[] = []
  /** Instances that run or start. */
  #numInstances = 0
  /** The number of replicas that was set last. */
  #replicas = 0
  #state: Promise<ScaledWorkloadState> | undefined
  #scaling: Promise<unknown> = Promise.resolve()
  #isClosed = false

  constructor(settings: KubernetesSettings, workload: ScaledWorkload, reach: 'pod-ip' | 'forward') {
    this.#settings = settings
    this.#workload = workload
    this.#reach = reach
    this.#api = new KubernetesApi(settings)
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    if (spec.command || spec.startup || spec.image) {
      const { kind, name } = this.#workload
      const text = `${spec.service}: the pods of ${kind} ${name} have their own command and image`
      throw new ManyhostError('MANYHOST_UNSUPPORTED', text, { service: spec.service })
    }
    if (this.#isClosed) throw createClosedError()
    const state = await this.#openState()
    this.#numInstances++
    try {
      await settleOrAbort(this.#grow(state, signal), signal)
      const pod = await this.#takePod(spec, signal)
      return this.#createInstance(state, pod, spec)
    } catch (error) {
      this.#numInstances--
      void this.#scale(state).catch(() => undefined)
      throw error
    }
  }

  #openState(): Promise<ScaledWorkloadState> {
    this.#state ??= this.#createState().catch((error) => {
      this.#state = undefined
      throw error
    })
    return this.#state
  }

  async #createState(): Promise<ScaledWorkloadState> {
    const namespace = await this.#api.namespace()
    const { name, kind } = this.#workload
    const found = await this.#api.call(`read ${kind} ${name}`, ({ apps, options }) =>
      kind === 'deployment'
        ? apps.readNamespacedDeployment({ namespace, name }, options)
        : apps.readNamespacedStatefulSet({ namespace, name }, options),
    )
    const { selector = {}, replicas = 1 } = found.spec ?? {}
    this.#replicas = replicas
    const events = new PodEvents(
      this.#api,
      namespace,
      toLabelSelector(selector),
      (pod, podName) => {
        this.#onPod(podName, pod)
      },
    )
    try {
      await resolveWithin(START_TIMEOUT, events.connect())
    } catch (error) {
      events.close()
      throw error
    }
    return { namespace, events, initialReplicas: replicas }
  }

  /** A pod of the workload was added or has changed; undefined if it is gone. */
  #onPod(name: string, pod: V1Pod | undefined): void {
    if (this.#instances.has(name)) return
    if (!pod || !isPodReady(pod) || !pod.status?.podIP) this.#freePods.delete(name)
    else {
      const next = this.#waiting.shift()
      if (next) next(pod)
      else this.#freePods.set(name, pod)
    }
  }

  /** Takes a free pod, or the next pod that becomes ready. */
  async #takePod({ service }: StartSpec, signal: AbortSignal): Promise<V1Pod> {
    const [first] = this.#freePods
    if (first) {
      this.#freePods.delete(first[0])
      return first[1]
    }
    const next = deferred<V1Pod>()
    this.#waiting.push(next.resolve)
    try {
      return await settleOrAbort(next.promise, signal)
    } catch (cause) {
      const { kind, name } = this.#workload
      const text = `no pod of ${kind} ${name} became ready before the start was given up`
      throw new ManyhostError('MANYHOST_START_FAILED', text, { service, cause })
    } finally {
      const at = this.#waiting.indexOf(next.resolve)
      if (at >= 0) this.#waiting.splice(at, 1)
    }
  }

  #createInstance(state: ScaledWorkloadState, pod: V1Pod, spec: StartSpec): ScaledPodInstance {
    const name = pod.metadata?.name ?? ''
    const { namespace, events } = state
    const podAddress = {
      api: this.#api,
      namespace,
      pod: name,
      ip: pod.status?.podIP ?? '',
      port: this.#settings.port,
      reach: this.#reach,
      spec,
    }
    const release = async (hasEnded: boolean): Promise<void> => {
      this.#numInstances--
      if (!hasEnded) await this.#lowerDeletionCost(namespace, name)
      await this.#scale(state).catch(() => undefined)
    }
    const instance = new ScaledPodInstance(spec, connectToPod(podAddress), pod, release)
    this.#instances.set(name, instance)
    events.watch(name, {
      isCreated: true,
      onPod: (seen) => instance.onPod(seen),
      onGone: () => instance.onPodGone(),
    })
    void instance.gone.then(() => {
      this.#instances.delete(name)
      events.unwatch(name)
      // The cluster may have removed another pod. Then this one serves on, and the next start can use it.
      const last = instance.lastSeen
      if (last) this.#onPod(name, last)
    })
    return instance
  }

  /** Asks the cluster to remove this pod first. Older clusters ignore that. */
  async #lowerDeletionCost(namespace: string, name: string): Promise<void> {
    const body = [
      { op: 'add', path: '/metadata/annotations', value: { [DELETION_COST]: '-1000' } },
    ] as const
    const isBare = (pod: V1Pod): boolean => !pod.metadata?.annotations
    const patch = (from: V1Pod) =>
      isBare(from)
        ? [...body]
        : [
            {
              op: 'add',
              path: `/metadata/annotations/${DELETION_COST.replace('/', '~1')}`,
              value: '-1000',
            },
          ]
    const known = this.#instances.get(name)?.lastSeen
    if (this.#workload.kind !== 'deployment' || !known) return
    await this.#api
      .call(
        'patch a pod',
        ({ core, options }) =>
          core.patchNamespacedPod({ namespace, name, body: patch(known) }, options),
        { retryMs: 5_000 },
      )
      .catch(() => undefined)
  }

  /** Sets the number of replicas to that of the instances. */
  #scale(state: ScaledWorkloadState): Promise<unknown> {
    return this.#setReplicas(state, () => this.#numInstances)
  }

  /** Sets the number of replicas for a start. Existing pods are used first, so a start never makes the workload smaller. */
  #grow(state: ScaledWorkloadState, signal: AbortSignal): Promise<unknown> {
    return this.#setReplicas(state, () => Math.max(this.#replicas, this.#numInstances), signal)
  }

  /**
   * Changes the number of replicas: one change at a time. The number is chosen only when the change before has been made: a
   * start that comes during a change to a smaller number would see the larger one, and ask for no pod.
   */
  #setReplicas(
    { namespace, initialReplicas }: ScaledWorkloadState,
    chooseNumber: () => number,
    signal?: AbortSignal,
  ): Promise<unknown> {
    const { name, kind } = this.#workload
    const set = async (): Promise<void> => {
      const replicas = this.#isClosed ? initialReplicas : chooseNumber()
      if (replicas === this.#replicas) return
      const body = [{ op: 'replace', path: '/spec/replicas', value: replicas }]
      await this.#api.call(
        `scale ${kind} ${name}`,
        ({ apps, options }) =>
          kind === 'deployment'
            ? apps.patchNamespacedDeploymentScale({ namespace, name, body }, options)
            : apps.patchNamespacedStatefulSetScale({ namespace, name, body }, options),
        signal ? { signal } : {},
      )
      this.#replicas = replicas
    }
    const done = this.#scaling.then(set, set)
    this.#scaling = done.catch(() => undefined)
    return done
  }

  /** Ends all instances, and sets the number of replicas back to what it was at first. */
  async close(): Promise<void> {
    this.#isClosed = true
    const state = await this.#state?.catch(() => undefined)
    for (const instance of this.#instances.values()) instance.release()
    if (state) {
      const scaled = this.#scale(state).catch(() => undefined)
      await resolveWithin(CLOSE_TIMEOUT, scaled)
      state.events.close()
    }
    this.#api.close()
  }
}

/** A selector in the form of a query of the API. */
function toLabelSelector(selector: {
  matchLabels?: Record<string, string>
  matchExpressions?: { key: string; operator: string; values?: string[] }[]
}): string {
  const equal = Object.entries(selector.matchLabels ?? {}).map(([key, value]) => `${key}=${value}`)
  const more = (selector.matchExpressions ?? []).map(({ key, operator, values = [] }) => {
    if (operator === 'Exists') return key
    if (operator === 'DoesNotExist') return `!${key}`
    return `${key} ${operator === 'In' ? 'in' : 'notin'} (${values.join(',')})`
  })
  return [...equal, ...more].join(',')
}
