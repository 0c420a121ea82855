/** Runs instances as pods of a Kubernetes cluster, or uses the ready pods of a workload that exists already. */
import { randomBytes } from 'node:crypto'
import { ManyhostError } from '../../src/core/errors.ts'
import type { Capability, Provider, Running, StartSpec } from '../../src/core/provider.ts'
import { resolveWithin } from '../../src/core/time.ts'
import { processIdentity } from '../../src/posix/identity.ts'
import { containerCwd } from '../shared/container-cwd.ts'
import { listenEnvironment } from '../shared/endpoint.ts'
import { createClosedError, KubernetesApi } from './api.ts'
import { KubernetesInstance } from './instance.ts'
import { SESSION_LABEL } from './names.ts'
import {
  type KubernetesOptions,
  type KubernetesSettings,
  parseKubernetesOptions,
} from './options.ts'
import { PodEvents } from './pod-events.ts'
import { buildPodManifest } from './pod-manifest.ts'
import { ScaledWorkloadProvider } from './scaled-workload.ts'
import { sweepPods } from './sweep.ts'

export type { KubernetesOptions } from './options.ts'

/** How long `close` waits for the end of all instances, in ms. */
const CLOSE_TIMEOUT = 30_000
/** How long a start waits for an API server that cannot be reached, in ms. */
const START_RETRY_MS = 120_000
/** How long a failed start waits until nothing of its instance is left, in ms. */
const CLEANUP_TIMEOUT = 30_000

/**
 * Runs instances as pods of a cluster; with `scale`, uses those of a Deployment or StatefulSet. Needs the package
 * `@kubernetes/client-node`.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function kubernetes(options: KubernetesOptions = {}): Provider {
  const settings = parseKubernetesOptions(options)
  return settings.scale
    ? new ScaledWorkloadProvider(settings, settings.scale, resolveReach(settings))
    : new KubernetesProvider(settings)
}

function resolveReach({ reach }: KubernetesSettings): 'pod-ip' | 'forward' {
  return reach ?? (process.env.KUBERNETES_SERVICE_HOST ? 'pod-ip' : 'forward')
}

interface PodProviderState {
  readonly namespace: string
  readonly events: PodEvents
}

class KubernetesProvider implements Provider {
  readonly name = 'kubernetes'
  readonly capabilities: ReadonlySet<Capability> = new Set([
    'command',
    'function',
    'image',
    'resources',
  ])
  readonly #settings: KubernetesSettings
  readonly #session = randomBytes(8).toString('hex')
  readonly #owner: string
  readonly #api: KubernetesApi
  readonly #instances = new Set<KubernetesInstance>()
  #state: Promise<PodProviderState> | undefined
  #swept: Promise<void> | undefined
  #isClosed = false

  constructor(settings: KubernetesSettings) {
    this.#settings = settings
    this.#owner = settings.owner ?? processIdentity()
    this.#api = new KubernetesApi(settings)
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    const image = spec.image ?? this.#settings.image
    if (image === undefined) {
      throw new ManyhostError(
        'MANYHOST_UNSUPPORTED',
        `${spec.service} needs an image to run in a pod: set image at the service or at the provider`,
        { service: spec.service },
      )
    }
    const state = await this.#openState()
    if (this.#isClosed) throw createClosedError()
    this.#sweepOnce(state)
    const instance = this.#createInstance(state, image, spec)
    this.#instances.add(instance)
    void instance.gone.then(() => this.#instances.delete(instance))
    try {
      await instance.begin(signal, START_RETRY_MS)
      if (this.#isClosed) throw createClosedError()
      return instance
    } catch (error) {
      const stopped = instance.stop(0)
      // If the API server cannot be reached, the deletion goes on in the background.
      await resolveWithin(this.#api.isUnreachable ? 0 : CLEANUP_TIMEOUT, stopped)
      throw error
    }
  }

  #openState(): Promise<PodProviderState> {
    this.#state ??= this.#createState().catch((error) => {
      this.#state = undefined
      throw error
    })
    return this.#state
  }

  async #createState(): Promise<PodProviderState> {
    const namespace = await this.#api.namespace()
    return {
      namespace,
      events: new PodEvents(this.#api, namespace, `${SESSION_LABEL}=${this.#session}`),
    }
  }

  #createInstance(
    { namespace, events }: PodProviderState,
    image: string,
    spec: StartSpec,
  ): KubernetesInstance {
    const settings = this.#settings
    const reach = resolveReach(settings)
    const listenOn = { host: '0.0.0.0', port: settings.port }
    const env = {
      ...settings.env,
      ...spec.env,
      ...listenEnvironment(listenOn),
      MANYHOST_INSTANCE: spec.id,
    }
    const owner = this.#owner
    const manifest = buildPodManifest({ spec, settings, image, session: this.#session, owner, env })
    const cwd = containerCwd(spec, settings)
    const api = this.#api
    return new KubernetesInstance(spec, {
      api,
      namespace,
      events,
      manifest,
      env,
      cwd,
      listenOn,
      reach,
    })
  }

  /** Runs while the first instance starts. If it fails, the next start tries it again. */
  #sweepOnce({ namespace }: PodProviderState): void {
    if (this.#settings.adopt === 'keep' || this.#swept) return
    const self = { session: this.#session, owner: this.#settings.owner }
    this.#swept = sweepPods(this.#api, namespace, self).catch(() => {
      this.#swept = undefined
    })
  }

  async close(): Promise<void> {
    this.#isClosed = true
    const all = [...this.#instances].map((instance) => instance.stop(0))
    await resolveWithin(CLOSE_TIMEOUT, Promise.all([...all, this.#swept]))
    const state = await this.#state?.catch(() => undefined)
    state?.events.close()
    this.#api.close()
  }
}
