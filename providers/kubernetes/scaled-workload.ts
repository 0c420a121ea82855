/**
 * The ready pods of a Deployment or StatefulSet as instances: one more is one replica more, and which pod comes or goes
 * is the cluster's choice. Its pods have their own command, image and port; nothing is started in them.
 */
import type { V1Pod } from '@kubernetes/client-node'
import { ManyhostError } from '../../src/core/errors.ts'
import type { Capability, Exit, Provider, Running, StartSpec } from '../../src/core/provider.ts'
import { resolveWithin } from '../../src/core/time.ts'
import { KubernetesApi } from './api.ts'
import type { KubernetesSettings } from './options.ts'
import { connectToPod, type PodConnection } from './pod-connection.ts'
import { PodEvents } from './pod-events.ts'
import { exitOfPod, isPodReady, leavingReason } from './pod-status.ts'

interface ScaledWorkload {
  readonly kind: 'deployment' | 'statefulset'
  readonly name: string
}

interface ScaledWorkloadState {
  readonly namespace: string
  readonly events: PodEvents
  /** Replicas that it had before. */
  readonly initialReplicas: number
}

/** How long a watch of the workload's pods is waited for, in ms; it is tried on behind that. */
const START_TIMEOUT = 30_000
/** How long the cluster is given to take away a pod that is one too many, in ms. */
const GONE_TIMEOUT = 60_000
/** How long the workload's size is tried to be given back, in ms. */
const CLOSE_TIMEOUT = 20_000

/** What a ReplicaSet looks at to choose the pods that go; known to clusters from 1.22 on. */
const DELETION_COST = 'controller.kubernetes.io/pod-deletion-cost'

export class ScaledWorkloadProvider implements Provider {
  readonly name = 'kubernetes'
  readonly capabilities: ReadonlySet<Capability> = new Set<Capability>()
  readonly #settings: KubernetesSettings
  readonly #workload: ScaledWorkload
  readonly #reach: 'pod-ip' | 'forward'
  readonly #api: KubernetesApi
  /** Pods that serve and are nobody's instance. */
  readonly #freePods = new Map<string, V1Pod>()
  readonly #instances = new Map<string, ScaledPodInstance>()
  readonly #waiting: ((pod: V1Pod) => void)[] = []
  /** Instances that are or are about to be. */
  #numInstances = 0
  /** As the workload has been told last. */
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
    const ground = await this.#openState()
    this.#numInstances++
    try {
      // What is there is used first: a start takes nothing away.
      if (this.#numInstances > this.#replicas) await this.#scale(ground, signal)
      const pod = await this.#takePod(spec, signal)
      return this.#createInstance(ground, pod, spec)
    } catch (error) {
      this.#numInstances--
      void this.#scale(ground).catch(() => undefined)
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

  /** What the watch tells of each pod of the workload. */
  #onPod(name: string, pod: V1Pod | undefined): void {
    const held = this.#instances.get(name)
    if (held) return
    if (!pod || !isPodReady(pod) || !pod.status?.podIP) this.#freePods.delete(name)
    else {
      const next = this.#waiting.shift()
      if (next) next(pod)
      else this.#freePods.set(name, pod)
    }
  }

  /** One that is free, or the next that becomes ready. */
  async #takePod({ service }: StartSpec, signal: AbortSignal): Promise<V1Pod> {
    const [first] = this.#freePods
    if (first) {
      this.#freePods.delete(first[0])
      return first[1]
    }
    let take: (pod: V1Pod) => void = () => {}
    let onAbort = (): void => {}
    try {
      return await new Promise<V1Pod>((resolve, reject) => {
        take = resolve
        onAbort = () => {
          const { kind, name } = this.#workload
          const text = `no pod of ${kind} ${name} became ready before the start was given up`
          reject(
            new ManyhostError('MANYHOST_START_FAILED', text, { service, cause: signal.reason }),
          )
        }
        signal.addEventListener('abort', onAbort, { once: true })
        if (signal.aborted) onAbort()
        else this.#waiting.push(take)
      })
    } finally {
      signal.removeEventListener('abort', onAbort)
      const at = this.#waiting.indexOf(take)
      if (at >= 0) this.#waiting.splice(at, 1)
    }
  }

  #createInstance(ground: ScaledWorkloadState, pod: V1Pod, spec: StartSpec): ScaledPodInstance {
    const name = pod.metadata?.name ?? ''
    const { namespace, events } = ground
    const where = {
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
      await this.#scale(ground).catch(() => undefined)
    }
    const replica = new ScaledPodInstance(spec, connectToPod(where), pod, release)
    this.#instances.set(name, replica)
    events.watch(name, {
      isCreated: true,
      onPod: (seen) => replica.onPod(seen),
      onGone: () => replica.onPodGone(),
    })
    void replica.gone.then(() => {
      this.#instances.delete(name)
      events.unwatch(name)
      // The cluster may have taken another one away: this one serves on, and is there for the next start.
      const last = replica.lastSeen
      if (last) this.#onPod(name, last)
    })
    return replica
  }

  /** The pod that is the least loss goes first: a wish, which some clusters do not know. */
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

  /** Sets the workload's size to what is wanted; one change at a time, and each to the newest wish. */
  #scale(
    { namespace, initialReplicas: initial }: ScaledWorkloadState,
    signal?: AbortSignal,
  ): Promise<unknown> {
    const { name, kind } = this.#workload
    const set = async (): Promise<void> => {
      const replicas = this.#isClosed ? initial : this.#numInstances
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

  /** The workload has the size again that it was found with. */
  async close(): Promise<void> {
    this.#isClosed = true
    const ground = await this.#state?.catch(() => undefined)
    const all = [...this.#instances.values()].map((replica) => replica.release())
    if (ground)
      await resolveWithin(
        CLOSE_TIMEOUT,
        this.#scale(ground).catch(() => undefined),
      )
    await Promise.all(all)
    ground?.events.close()
    this.#api.close()
  }
}

class ScaledPodInstance implements Running {
  readonly address: string
  readonly exited: Promise<Exit>
  readonly leaving: Promise<string>
  readonly gone: Promise<void>
  readonly #spec: StartSpec
  readonly #connection: PodConnection
  readonly #uid: string | undefined
  readonly #releaseReplica: (hasEnded: boolean) => Promise<void>
  lastSeen: V1Pod | undefined
  #state: 'up' | 'stopping' | 'ended' = 'up'
  #setExited: (exit: Exit) => void = () => {}
  #setLeaving: (reason: string) => void = () => {}
  #setGone: () => void = () => {}
  #setLost: () => void = () => {}
  readonly #lost: Promise<void>

  constructor(
    spec: StartSpec,
    reach: PodConnection,
    pod: V1Pod,
    release: (hasEnded: boolean) => Promise<void>,
  ) {
    this.#spec = spec
    this.#connection = reach
    this.#uid = pod.metadata?.uid
    this.#releaseReplica = release
    this.lastSeen = pod
    this.address = reach.address
    this.exited = new Promise((resolve) => {
      this.#setExited = resolve
    })
    this.leaving = new Promise((resolve) => {
      this.#setLeaving = resolve
    })
    this.gone = new Promise((resolve) => {
      this.#setGone = resolve
    })
    this.#lost = new Promise((resolve) => {
      this.#setLost = resolve
    })
  }

  get dispatcher(): PodConnection['pool'] {
    return this.#connection.pool
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
      this.#setLost()
    }
    if (leaving) this.#setLeaving(leaving)
    const container = pod.spec?.containers[0]?.name ?? ''
    const exit = exitOfPod(pod, container, undefined)
    if (exit) this.#end(exit)
    // A container that is restarted where it was is not ready meanwhile: it must not be sent anything.
    else if (!leaving && !isPodReady(pod))
      this.#end({ reason: 'lost', detail: 'its pod is not ready' })
  }

  onPodGone(): void {
    this.lastSeen = undefined
    this.#setLost()
    this.#end({ reason: 'lost', detail: 'its pod was deleted' })
  }

  #end(exit: Exit): void {
    if (this.#state !== 'up') return
    this.#state = 'ended'
    this.#settleExit(exit)
    void this.#releaseReplica(true).finally(this.#setGone)
  }

  /** Its replica is given back; which pod goes then is the cluster's choice. */
  stop(grace: number): Promise<void> {
    if (this.#state === 'up') {
      this.#state = 'stopping'
      void this.#releaseAndWait(grace)
    }
    return this.gone
  }

  async #releaseAndWait(grace: number): Promise<void> {
    await this.#releaseReplica(false)
    await resolveWithin(Math.min(grace, GONE_TIMEOUT), this.#lost)
    this.#settleExit({ reason: 'stopped', detail: 'stopped' })
    this.#setGone()
  }

  /** Lets go of it and leaves the pod alone. */
  async release(): Promise<void> {
    if (this.#state === 'up') this.#settleExit({ reason: 'stopped', detail: 'stopped' })
    this.#state = 'ended'
    this.#setGone()
  }

  #settleExit(exit: Exit): void {
    this.#setExited(exit)
    const { id, service } = this.#spec
    const text = `instance ${id} ended: ${exit.detail}`
    const error = new ManyhostError('MANYHOST_INSTANCE_ENDED', text, { service })
    process.nextTick(() => void this.#connection.pool.destroy(error).catch(() => undefined))
  }
}

/** A selector as the API takes it. */
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

function createClosedError(): ManyhostError {
  return new ManyhostError('MANYHOST_SESSION_CLOSED', 'the provider kubernetes is closed')
}
