/**
 * What happens to pods, from the API server's watch: no polling. A watch that breaks is taken up where it was left, by
 * the version of the last thing that it told; where the server has forgotten that one, all pods are listed again.
 */
import type { IncomingMessage } from 'node:http'
import type { V1Pod } from '@kubernetes/client-node'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import { every, resolveWithin, sleep, type Timer } from '../../src/core/time.ts'
import { readJsonLines } from '../shared/json-lines.ts'
import { isKubernetesUnreachable, type KubernetesApi, kubernetesStatusOf } from './api.ts'

export interface PodWatcher {
  /** Whether the cluster has said that there is a pod: only then is its absence from a list its end. */
  readonly isCreated: boolean
  onPod(pod: V1Pod): void
  onGone(): void
}

/** How often it is made sure that a silent server is still there, in ms. */
const PING_INTERVAL = 5_000
const PING_TIMEOUT = 5_000
/** How long it is tried before a refusal counts, in ms. */
const REACH_TIMEOUT = 2_000
/** Longest pause between two tries to connect, in ms. */
const MAX_RECONNECT_PAUSE = 500
/** How long the server is to keep one watch, in s: its own choice is half an hour and more. */
const WATCH_SECONDS = 600
/** Pods a page, as lists come. */
const PAGE_SIZE = 500

const STATUS_GONE = 410

export class PodEvents {
  readonly #api: KubernetesApi
  readonly #namespace: string
  readonly #selector: string
  readonly #watchers = new Map<string, PodWatcher>()
  readonly #onPod: (pod: V1Pod) => void
  #version: string | undefined
  #stream: IncomingMessage | undefined
  #connected: Promise<void> | undefined
  #setConnected: () => void = () => {}
  #ping: Timer | undefined
  #isClosed = false
  /** Why we may not watch, as the API server says it. */
  #refusal: string | undefined

  /** @param onPod is told of all pods that the selector finds, whoever watches them. */
  constructor(
    api: KubernetesApi,
    namespace: string,
    selector: string,
    onPod: (pod: V1Pod | undefined, name: string) => void = () => {},
  ) {
    this.#api = api
    this.#namespace = namespace
    this.#selector = selector
    this.#onPod = (pod) => onPod(pod, pod.metadata?.name ?? '')
    this.#onGone = (name) => onPod(undefined, name)
  }

  readonly #onGone: (name: string) => void

  /** Resolves when nothing that happens from then on is missed. */
  whenConnected(): Promise<void> {
    if (!this.#connected) {
      this.#connected = new Promise((resolve) => {
        this.#setConnected = resolve
      })
      this.#ping = every(PING_INTERVAL, () => void this.#pingServer())
      void this.#reconnectLoop()
    }
    return this.#connected
  }

  /**
   * Resolves when nothing is missed any more; one that is merely away is waited for.
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

  async #reconnectLoop(): Promise<void> {
    for (let pause = 20; !this.#isClosed; pause = Math.min(2 * pause, MAX_RECONNECT_PAUSE)) {
      try {
        if (this.#version === undefined) this.#version = await this.#listPods()
        await this.#follow(this.#version, () => {
          pause = 20
        })
      } catch (error) {
        this.#refusal = isKubernetesUnreachable(asError(error)) ? undefined : describeError(error)
        // Forgotten by the server, or never known to it: as after a restore of its store.
        if (kubernetesStatusOf(error) === STATUS_GONE || kubernetesStatusOf(error) === 400)
          this.#version = undefined
      }
      if (!this.#isClosed) await sleep(pause)
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
      this.#setConnected()
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
      this.#onGone(name)
    } else if (type === 'ADDED' || type === 'MODIFIED') {
      this.#watchers.get(name)?.onPod(pod)
      this.#onPod(pod)
    }
  }

  /** Answers with the version that it is of. */
  async #listPods(): Promise<string> {
    // Those that come while it is asked are none that it could answer for.
    const made = [...this.#watchers].filter(([, { isCreated: isMade }]) => isMade)
    const seen = new Set<string>()
    let version = ''
    let next: string | undefined
    do {
      const page = await this.#api.call(
        'list pods',
        ({ core, options }) =>
          core.listNamespacedPod(
            {
              namespace: this.#namespace,
              labelSelector: this.#selector,
              limit: PAGE_SIZE,
              ...(next && { _continue: next }),
            },
            options,
          ),
        { retryMs: 0 },
      )
      version = page.metadata?.resourceVersion ?? ''
      next = page.metadata?._continue
      for (const pod of page.items) {
        const name = pod.metadata?.name ?? ''
        seen.add(name)
        this.#watchers.get(name)?.onPod(pod)
        this.#onPod(pod)
      }
    } while (next)
    for (const [name, watcher] of made) if (!seen.has(name)) watcher.onGone()
    return version
  }

  /** A connection whose other end has vanished says nothing by itself. */
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
