/** Instances as pods of a Kubernetes cluster, or as the ready pods of a workload that is there already. */
import { randomBytes } from 'node:crypto'
import { ManyhostError } from '../../src/core/errors.ts'
import type { Capability, Provider, Running, StartSpec } from '../../src/core/provider.ts'
import { within } from '../../src/core/time.ts'
import { ownOwner } from '../owner.ts'
import { Api } from './api.ts'
import { Events } from './events.ts'
import { Instance } from './instance.ts'
import { SESSION } from './names.ts'
import { type KubernetesOptions, parseKubernetes, type Settings } from './options.ts'
import { cwdOf, podOf } from './pod.ts'
import { Scaled } from './scale.ts'
import { sweep } from './sweep.ts'

export type { KubernetesOptions } from './options.ts'

/** How long the end of all instances is waited for in `close`, in ms. */
const CLOSE_PATIENCE = 30_000
/** How long a start waits for an API server that went away, in ms. */
const START_PATIENCE = 120_000
/** How long what could not be started is waited for, so that nothing of it is left, in ms. */
const CLEAN_PATIENCE = 30_000

/**
 * Runs instances as pods of a cluster; with `scale`, uses those of a Deployment or StatefulSet. Needs the package
 * `@kubernetes/client-node`.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function kubernetes(options: KubernetesOptions = {}): Provider {
  const settings = parseKubernetes(options)
  return settings.scale
    ? new Scaled(settings, settings.scale, reachOf(settings))
    : new Pods(settings)
}

function reachOf({ reach }: Settings): 'pod-ip' | 'forward' {
  return reach ?? (process.env.KUBERNETES_SERVICE_HOST ? 'pod-ip' : 'forward')
}

interface Ground {
  readonly namespace: string
  readonly events: Events
}

class Pods implements Provider {
  readonly name = 'kubernetes'
  readonly capabilities: ReadonlySet<Capability> = new Set([
    'command',
    'function',
    'image',
    'resources',
  ])
  readonly #settings: Settings
  readonly #session = randomBytes(8).toString('hex')
  readonly #owner: string
  readonly #api: Api
  readonly #instances = new Set<Instance>()
  #ground: Promise<Ground> | undefined
  #swept: Promise<void> | undefined
  #isClosed = false

  constructor(settings: Settings) {
    this.#settings = settings
    this.#owner = settings.owner ?? ownOwner()
    this.#api = new Api(settings)
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    const image = spec.image ?? this.#settings.image
    if (image === undefined) {
      throw new ManyhostError(
        'MANYHOST_UNSUPPORTED',
        `${spec.service} needs an image to run in a pod: its own, or the provider's`,
        { service: spec.service },
      )
    }
    const ground = await this.#open()
    if (this.#isClosed) throw closed()
    this.#sweep(ground)
    const instance = this.#plan(ground, image, spec)
    this.#instances.add(instance)
    void instance.gone.then(() => this.#instances.delete(instance))
    try {
      await instance.begin(signal, START_PATIENCE)
      if (this.#isClosed) throw closed()
      return instance
    } catch (error) {
      const stopped = instance.stop(0)
      // Where the API server is away, the deletion goes on by itself.
      await within(this.#api.isAway ? 0 : CLEAN_PATIENCE, stopped)
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
    return { namespace, events: new Events(this.#api, namespace, `${SESSION}=${this.#session}`) }
  }

  #plan({ namespace, events }: Ground, image: string, spec: StartSpec): Instance {
    const settings = this.#settings
    const reach = reachOf(settings)
    const listenOn = { host: '0.0.0.0', port: settings.port }
    const env = {
      ...settings.env,
      ...spec.env,
      HOST: listenOn.host,
      PORT: String(listenOn.port),
      MANYHOST_INSTANCE: spec.id,
    }
    const owner = this.#owner
    const manifest = podOf({ spec, settings, image, session: this.#session, owner, env })
    const cwd = cwdOf(spec, settings)
    const api = this.#api
    return new Instance(spec, { api, namespace, events, manifest, env, cwd, listenOn, reach })
  }

  /** Beside the first start; tried again with the next one when it fails. */
  #sweep({ namespace }: Ground): void {
    if (this.#settings.adopt === 'keep' || this.#swept) return
    const mine = { session: this.#session, owner: this.#settings.owner }
    this.#swept = sweep(this.#api, namespace, mine).catch(() => {
      this.#swept = undefined
    })
  }

  async close(): Promise<void> {
    this.#isClosed = true
    const all = [...this.#instances].map((instance) => instance.stop(0))
    await within(CLOSE_PATIENCE, Promise.all([...all, this.#swept]))
    const ground = await this.#ground?.catch(() => undefined)
    ground?.events.close()
    this.#api.close()
  }
}

function closed(): ManyhostError {
  return new ManyhostError('MANYHOST_SESSION_CLOSED', 'the provider kubernetes is closed')
}
