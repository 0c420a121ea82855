/**
 * Follows pods by the watch of the API server, without polling. A watch that breaks goes on from the resource version of
 * its last event. If the server has forgotten that version, all pods are listed again.
 */
import type { IncomingMessage } from 'node:http'
import type { V1Pod } from '@kubernetes/client-node'
import { deferred } from '../../src/core/deferred.ts'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import { every, resolveWithin, type Timer } from '../../src/core/time.ts'
import { readJsonLines } from '../shared/json-lines.ts'
import { reconnectLoop } from '../shared/reconnect-loop.ts'
import { isKubernetesUnreachable, type KubernetesApi, kubernetesStatusOf } from './api.ts'
import { listPods } from './list-pods.ts'

export interface PodWatcher {
  /** Whether the cluster has confirmed the pod. Only then its absence from a list means that it is gone. */
  readonly isCreated: boolean
  onPod(pod: V1Pod): void
  onGone(): void
}

/** The interval at which a silent server is asked whether it is still there, in ms. */
const PING_INTERVAL = 5_000
const PING_TIMEOUT = 5_000
/** How long `connect` tries before a refusal counts, in ms. */
const REACH_TIMEOUT = 2_000
/** How long the server keeps one watch, in s. By default it would keep it for half an hour and more. */
const WATCH_SECONDS = 600

const STATUS_GONE = 410

export class PodEvents {
  readonly #api: KubernetesApi
  readonly #namespace: string
  readonly #selector: string
  readonly #watchers = new Map<string, PodWatcher>()
  readonly #onPod: (pod: V1Pod | undefined, name: string) => void
  readonly #connected = deferred<void>()
  #version: string | undefined
  #stream: IncomingMessage | undefined
  #ping: Timer | undefined
  #isClosed = false
  /** The reason of the API server why pods may not be watched. */
  #refusal: string | undefined

  /** @param onPod is called for each change of a pod that the selector finds; with undefined when the pod is gone */
  constructor(
    api: KubernetesApi,
    namespace: string,
    selector: string,
    onPod: (pod: V1Pod | undefined, name: string) => void = () => {},
  ) {
    this.#api = api
    this.#namespace = namespace
    this.#selector = selector
    this.#onPod = onPod
  }

  /** Resolves when no event is missed from then on. The first call connects. */
  whenConnected(): Promise<void> {
    if (!this.#ping) {
      this.#ping = every(PING_INTERVAL, () => void this.#pingServer())
      void reconnectLoop(
        (onConnected) => this.#listAndFollow(onConnected),
        () => this.#isClosed,
      )
    }
    return this.#connected.promise
  }

  /**
   * Resolves when no event is missed any more. A server that cannot be reached is waited for.
   * @throws ManyhostError MANYHOST_START_FAILED when the API server does not let us watch
   */
  async connect(): Promise<void> {
    const connected = this.whenConnected().then(() => true)
    while (!(await resolveWithin(REACH_TIMEOUT, connected))) {
      if (this.#isClosed || this.#refusal !== undefined) {
        const text = `pods cannot be watched: ${this.#refusal ?? 'the provider is closed'}`
        throw new ManyhostError('MANYHOST_START_FAILED', text)
      }
    }
  }

  watch(pod: string, watcher: PodWatcher): void {
    this.#watchers.set(pod, watcher)
  }

  unwatch(pod: string): void {
    this.#watchers.delete(pod)
  }

  close(): void {
    this.#isClosed = true
    this.#ping?.clear()
    this.#stream?.destroy()
  }

  async #listAndFollow(onConnected: () => void): Promise<void> {
    try {
      if (this.#version === undefined) this.#version = await this.#listPods()
      await this.#follow(this.#version, onConnected)
    } catch (error) {
      this.#refusal = isKubernetesUnreachable(asError(error)) ? undefined : describeError(error)
      // The server has forgotten the version, or has never known it, as after a restore of its store.
      const status = kubernetesStatusOf(error)
      if (status === STATUS_GONE || status === 400) this.#version = undefined
    }
  }

  async #follow(from: string, onConnected: () => void): Promise<void> {
    const query = {
      watch: 'true',
      labelSelector: this.#selector,
      resourceVersion: from,
      allowWatchBookmarks: 'true',
      timeoutSeconds: String(WATCH_SECONDS),
    }
    this.#stream = await this.#api.stream(this.#path, query, PING_TIMEOUT)
    if (this.#isClosed) this.#stream.destroy()
    try {
      this.#connected.resolve()
      onConnected()
      for await (const event of readJsonLines(this.#stream)) this.#handleEvent(event)
    } finally {
      this.#stream.destroy()
      this.#stream = undefined
    }
  }

  get #path(): string {
    return `/api/v1/namespaces/${this.#namespace}/pods`
  }

  #handleEvent({ type, object }: { type?: unknown; object?: unknown }): void {
    const pod = object as V1Pod
    if (type === 'ERROR') {
      const { code, message } = object as { code?: number; message?: string }
      throw Object.assign(new Error(message ?? 'the watch failed'), { code })
    }
    this.#version = pod.metadata?.resourceVersion ?? this.#version
    const name = pod.metadata?.name ?? ''
    if (type === 'DELETED') {
      this.#watchers.get(name)?.onPod(pod)
      this.#watchers.get(name)?.onGone()
      this.#onPod(undefined, name)
    } else if (type === 'ADDED' || type === 'MODIFIED') {
      this.#watchers.get(name)?.onPod(pod)
      this.#onPod(pod, name)
    }
  }

  /** Resolves with the resource version of the list. */
  async #listPods(): Promise<string> {
    // The list says nothing about pods that are created while the server is asked.
    const created = [...this.#watchers].filter(([, { isCreated }]) => isCreated)
    const seen = new Set<string>()
    const onPod = (pod: V1Pod): void => {
      const name = pod.metadata?.name ?? ''
      seen.add(name)
      this.#watchers.get(name)?.onPod(pod)
      this.#onPod(pod, name)
    }
    const query = { namespace: this.#namespace, selector: this.#selector }
    const version = await listPods(this.#api, query, onPod, { retryMs: 0 })
    for (const [name, watcher] of created) if (!seen.has(name)) watcher.onGone()
    return version
  }

  /** A connection whose other end has vanished is silent, so the server is asked. */
  async #pingServer(): Promise<void> {
    const stream = this.#stream
    if (!stream || this.#watchers.size === 0) return
    try {
      const ping = await this.#api.stream('/version', {}, PING_TIMEOUT)
      ping.resume()
    } catch (error) {
      if (kubernetesStatusOf(error) === undefined) stream.destroy()
    }
  }
}
