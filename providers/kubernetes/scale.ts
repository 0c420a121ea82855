/**
 * The ready pods of a Deployment or StatefulSet as instances: one more is one replica more, and which pod comes or goes
 * is the cluster's choice. Its pods have their own command, image and port; nothing is started in them.
 */
import type { V1Pod } from '@kubernetes/client-node'
import { ManyhostError } from '../../src/core/errors.ts'
import type { Capability, Exit, Provider, Running, StartSpec } from '../../src/core/provider.ts'
import { within } from '../../src/core/time.ts'
import { Api } from './api.ts'
import { Events } from './events.ts'
import { exitOf, isReady, leavingOf } from './exit.ts'
import type { Settings } from './options.ts'
import { type Reach, reachPod } from './reach.ts'

interface Workload {
  readonly kind: 'deployment' | 'statefulset'
  readonly name: string
}

interface Ground {
  readonly namespace: string
  readonly events: Events
  /** Replicas that it had before. */
  readonly initial: number
}

/** How long a watch of the workload's pods is waited for, in ms; it is tried on behind that. */
const START_PATIENCE = 30_000
/** How long the cluster is given to take away a pod that is one too many, in ms. */
const GONE_PATIENCE = 60_000
/** How long the workload's size is tried to be given back, in ms. */
const CLOSE_PATIENCE = 20_000

/** What a ReplicaSet looks at to choose the pods that go; known to clusters from 1.22 on. */
const COST = 'controller.kubernetes.io/pod-deletion-cost'

export class Scaled implements Provider {
  readonly name = 'kubernetes'
  readonly capabilities: ReadonlySet<Capability> = new Set<Capability>()
  readonly #settings: Settings
  readonly #workload: Workload
  readonly #reach: 'pod-ip' | 'forward'
  readonly #api: Api
  /** Pods that serve and are nobody's instance. */
  readonly #free = new Map<string, V1Pod>()
  readonly #held = new Map<string, Replica>()
  readonly #waiting: ((pod: V1Pod) => void)[] = []
  /** Instances that are or are about to be. */
  #wanted = 0
  /** As the workload has been told last. */
  #replicas = 0
  #ground: Promise<Ground> | undefined
  #scaling: Promise<unknown> = Promise.resolve()
  #isClosed = false

  constructor(settings: Settings, workload: Workload, reach: 'pod-ip' | 'forward') {
    this.#settings = settings
    this.#workload = workload
    this.#reach = reach
    this.#api = new Api(settings)
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    if (spec.command || spec.startup || spec.image) {
      const { kind, name } = this.#workload
      const text = `${spec.service}: the pods of ${kind} ${name} have their own command and image`
      throw new ManyhostError('MANYHOST_UNSUPPORTED', text, { service: spec.service })
    }
    if (this.#isClosed) throw closed()
    const ground = await this.#open()
    this.#wanted++
    try {
      // What is there is used first: a start takes nothing away.
      if (this.#wanted > this.#replicas) await this.#scale(ground, signal)
      const pod = await this.#take(spec, signal)
      return this.#hold(ground, pod, spec)
    } catch (error) {
      this.#wanted--
      void this.#scale(ground).catch(() => undefined)
      throw error
    }
  }

  #open(): Promise<Ground> {
    this.#ground ??= this.#begin().catch((error) => {
      this.#ground = undefined
      throw error
    })
    return this.#ground
  }

  async #begin(): Promise<Ground> {
    const namespace = await this.#api.namespace()
    const { name, kind } = this.#workload
    const found = await this.#api.call(`read ${kind} ${name}`, ({ apps, options }) =>
      kind === 'deployment'
        ? apps.readNamespacedDeployment({ namespace, name }, options)
        : apps.readNamespacedStatefulSet({ namespace, name }, options),
    )
    const { selector = {}, replicas = 1 } = found.spec ?? {}
    this.#replicas = replicas
    const events = new Events(this.#api, namespace, selectorOf(selector), (pod, podName) => {
      this.#see(podName, pod)
    })
    try {
      await within(START_PATIENCE, events.reach())
    } catch (error) {
      events.close()
      throw error
    }
    return { namespace, events, initial: replicas }
  }

  /** What the watch tells of each pod of the workload. */
  #see(name: string, pod: V1Pod | undefined): void {
    const held = this.#held.get(name)
    if (held) return
    if (!pod || !isReady(pod) || !pod.status?.podIP) this.#free.delete(name)
    else {
      const next = this.#waiting.shift()
      if (next) next(pod)
      else this.#free.set(name, pod)
    }
  }

  /** One that is free, or the next that becomes ready. */
  async #take({ service }: StartSpec, signal: AbortSignal): Promise<V1Pod> {
    const [first] = this.#free
    if (first) {
      this.#free.delete(first[0])
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

  #hold(ground: Ground, pod: V1Pod, spec: StartSpec): Replica {
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
      this.#wanted--
      if (!hasEnded) await this.#cheapen(namespace, name)
      await this.#scale(ground).catch(() => undefined)
    }
    const replica = new Replica(spec, reachPod(where), pod, release)
    this.#held.set(name, replica)
    events.watch(name, {
      isMade: true,
      onPod: (seen) => replica.see(seen),
      onGone: () => replica.lose(),
    })
    void replica.gone.then(() => {
      this.#held.delete(name)
      events.forget(name)
      // The cluster may have taken another one away: this one serves on, and is there for the next start.
      const last = replica.lastSeen
      if (last) this.#see(name, last)
    })
    return replica
  }

  /** The pod that is the least loss goes first: a wish, which some clusters do not know. */
  async #cheapen(namespace: string, name: string): Promise<void> {
    const body = [{ op: 'add', path: '/metadata/annotations', value: { [COST]: '-1000' } }] as const
    const isBare = (pod: V1Pod): boolean => !pod.metadata?.annotations
    const patch = (from: V1Pod) =>
      isBare(from)
        ? [...body]
        : [{ op: 'add', path: `/metadata/annotations/${COST.replace('/', '~1')}`, value: '-1000' }]
    const known = this.#held.get(name)?.lastSeen
    if (this.#workload.kind !== 'deployment' || !known) return
    await this.#api
      .call(
        'patch a pod',
        ({ core, options }) =>
          core.patchNamespacedPod({ namespace, name, body: patch(known) }, options),
        { patience: 5_000 },
      )
      .catch(() => undefined)
  }

  /** Sets the workload's size to what is wanted; one change at a time, and each to the newest wish. */
  #scale({ namespace, initial }: Ground, signal?: AbortSignal): Promise<unknown> {
    const { name, kind } = this.#workload
    const set = async (): Promise<void> => {
      const replicas = this.#isClosed ? initial : this.#wanted
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
    const ground = await this.#ground?.catch(() => undefined)
    const all = [...this.#held.values()].map((replica) => replica.drop())
    if (ground)
      await within(
        CLOSE_PATIENCE,
        this.#scale(ground).catch(() => undefined),
      )
    await Promise.all(all)
    ground?.events.close()
    this.#api.close()
  }
}

class Replica implements Running {
  readonly address: string
  readonly exited: Promise<Exit>
  readonly leaving: Promise<string>
  readonly gone: Promise<void>
  readonly #spec: StartSpec
  readonly #reach: Reach
  readonly #uid: string | undefined
  readonly #release: (hasEnded: boolean) => Promise<void>
  lastSeen: V1Pod | undefined
  #state: 'up' | 'stopping' | 'ended' = 'up'
  #setExited: (exit: Exit) => void = () => {}
  #setLeaving: (reason: string) => void = () => {}
  #setGone: () => void = () => {}
  #setLost: () => void = () => {}
  readonly #lost: Promise<void>

  constructor(
    spec: StartSpec,
    reach: Reach,
    pod: V1Pod,
    release: (hasEnded: boolean) => Promise<void>,
  ) {
    this.#spec = spec
    this.#reach = reach
    this.#uid = pod.metadata?.uid
    this.#release = release
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

  get dispatcher(): Reach['pool'] {
    return this.#reach.pool
  }

  accepts(signal: AbortSignal): Promise<void> {
    return this.#reach.accepts(signal)
  }

  see(pod: V1Pod): void {
    if (pod.metadata?.uid !== this.#uid) return this.lose()
    this.lastSeen = pod
    const leaving = leavingOf(pod)
    if (pod.metadata?.deletionTimestamp) {
      this.lastSeen = undefined
      this.#setLost()
    }
    if (leaving) this.#setLeaving(leaving)
    const container = pod.spec?.containers[0]?.name ?? ''
    const exit = exitOf(pod, container, undefined)
    if (exit) this.#end(exit)
    // A container that is restarted where it was is not ready meanwhile: it must not be sent anything.
    else if (!leaving && !isReady(pod))
      this.#end({ reason: 'lost', detail: 'its pod is not ready' })
  }

  lose(): void {
    this.lastSeen = undefined
    this.#setLost()
    this.#end({ reason: 'lost', detail: 'its pod was deleted' })
  }

  #end(exit: Exit): void {
    if (this.#state !== 'up') return
    this.#state = 'ended'
    this.#settle(exit)
    void this.#release(true).finally(this.#setGone)
  }

  /** Its replica is given back; which pod goes then is the cluster's choice. */
  stop(grace: number): Promise<void> {
    if (this.#state === 'up') {
      this.#state = 'stopping'
      void this.#giveBack(grace)
    }
    return this.gone
  }

  async #giveBack(grace: number): Promise<void> {
    await this.#release(false)
    await within(Math.min(grace, GONE_PATIENCE), this.#lost)
    this.#settle({ reason: 'stopped', detail: 'stopped' })
    this.#setGone()
  }

  /** Lets go of it and leaves the pod alone. */
  async drop(): Promise<void> {
    if (this.#state === 'up') this.#settle({ reason: 'stopped', detail: 'stopped' })
    this.#state = 'ended'
    this.#setGone()
  }

  #settle(exit: Exit): void {
    this.#setExited(exit)
    const { id, service } = this.#spec
    const text = `instance ${id} ended: ${exit.detail}`
    const error = new ManyhostError('MANYHOST_INSTANCE_ENDED', text, { service })
    process.nextTick(() => void this.#reach.pool.destroy(error).catch(() => undefined))
  }
}

/** A selector as the API takes it. */
function selectorOf(selector: {
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

function closed(): ManyhostError {
  return new ManyhostError('MANYHOST_SESSION_CLOSED', 'the provider kubernetes is closed')
}
