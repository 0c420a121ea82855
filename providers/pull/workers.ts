/** The provider: its instances are workers that poll, and each virtual URL is a service of the API. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { deferred } from '../../src/core/deferred.ts'
import { asError, ManyhostError } from '../../src/core/errors.ts'
import { Emitter } from '../../src/core/events.ts'
import type { Capability, Provider, Running, StartSpec } from '../../src/core/provider.ts'
import { digestToken } from './access.ts'
import { PullApi } from './api.ts'
import { type PullApiServer, startApiServer } from './api-server.ts'
import { createJobDispatcher } from './job-dispatcher.ts'
import { JobHub } from './job-hub.ts'
import { SERVICE_TEXT_LIMITS } from './job-limits.ts'
import { type JobStore, MemoryJobStore } from './job-store.ts'
import { registerPullMetrics } from './metrics.ts'
import type { WorkerRecord } from './open-job.ts'
import { parseWorkersOptions, type WorkersOptions, type WorkersSettings } from './options.ts'
import { PullInstance } from './pull-instance.ts'
import type { PullService } from './pull-service.ts'
import { deriveServiceId } from './service-id.ts'

export interface WorkersProvider extends Provider {
  /** Largest number of workers of one service that are instances at a time. */
  readonly limit: number
  /** Serves the API at `prefix` of a server of `node:http`, or of an Express application. */
  readonly handler: (request: IncomingMessage, response: ServerResponse) => void
  /**
   * Opens the store and, if there is a `listen`, the port. Resolves with the URL of the API. The first start of a service
   * and the first request do this by themselves.
   * @throws ManyhostError MANYHOST_INVALID_OPTION
   */
  ready(): Promise<{ readonly url: string | undefined }>
  /** Resolves with the id of the service that the virtual URL stands for. The service is created if there is none. */
  serviceId(url: string): Promise<string>
}

/**
 * Serves requests by workers that ask for their work over HTTP. A worker only needs to reach this server.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function workers(options: WorkersOptions = {}): WorkersProvider {
  return new PullProvider(parseWorkersOptions(options))
}

interface OpenedHub {
  readonly hub: JobHub
  readonly server: PullApiServer | undefined
}

class PullProvider implements WorkersProvider {
  readonly name = 'pull'
  readonly capabilities: ReadonlySet<Capability> = new Set()
  readonly limit: number
  readonly #settings: WorkersSettings
  readonly #api: PullApi
  /** By virtual URL, also while they are being created. */
  readonly #services = new Map<string, Promise<PullService>>()
  readonly #knownServices = new Map<string, PullService>()
  readonly #events = new Emitter<{ available: undefined }>('provider pull')
  #opening: Promise<OpenedHub> | undefined
  #hub: JobHub | undefined
  #failure: Error | undefined
  #isClosed = false
  readonly #removeMetrics: (() => void) | undefined

  constructor(settings: WorkersSettings) {
    this.#settings = settings
    this.limit = settings.maxWorkers
    const { prefix, token, bodySize, maxWait, about } = settings
    this.#api = new PullApi(async () => this.#hub ?? (await this.#open()).hub, {
      prefix,
      token,
      bodySize,
      maxWait: Math.floor(maxWait / 1_000),
      about,
    })
    const { registry } = settings
    this.#removeMetrics = registry && registerPullMetrics(registry, () => this.#hub)
  }

  readonly handler = (request: IncomingMessage, response: ServerResponse): void => {
    void this.#api.handle(request, response)
  }

  async ready(): Promise<{ url: string | undefined }> {
    const { server } = await this.#open()
    return { url: server && `${server.url}${this.#settings.prefix}` }
  }

  #open(): Promise<OpenedHub> {
    if (this.#isClosed) {
      const closed = new ManyhostError('MANYHOST_SESSION_CLOSED', 'workers: the provider is closed')
      return Promise.reject(closed)
    }
    this.#opening ??= this.#openHub().catch((error) => {
      // The next call tries again: the port may be free by then.
      this.#opening = undefined
      this.#failure = asError(error)
      throw error
    })
    return this.#opening
  }

  async #openHub(): Promise<OpenedHub> {
    const { store, listen, tls, services } = this.#settings
    const hub = this.#hub ?? new JobHub(await openJobStore(store), this.#settings)
    this.#hub = hub
    // Workers and clients of the API may come before the session has started these services.
    for (const url of Object.keys(services)) await this.#findOrCreateService(hub, url)
    const server = listen && (await startApiServer(listen, tls, this.handler))
    this.#failure = undefined
    return { hub, server }
  }

  async serviceId(url: string): Promise<string> {
    const { hub } = await this.#open()
    return (await this.#findOrCreateService(hub, url)).row.id
  }

  #findOrCreateService(hub: JobHub, url: string): Promise<PullService> {
    const key = normalizeUrl(url)
    let found = this.#services.get(key)
    if (!found) {
      found = this.#createService(hub, key).then((service) => {
        this.#knownServices.set(key, service)
        const notify = (): void => this.#events.emit('available', undefined)
        service.waitingStarts.add(notify)
        notify()
        return service
      })
      // The next call tries again.
      found.catch(() => this.#services.delete(key))
      this.#services.set(key, found)
    }
    return found
  }

  /**
   * The service of a virtual URL is, in this order:
   * 1. The one that the option `services` declares for the URL.
   * 2. One that was registered by the API, or stored, under a name that is the URL, or the URL without its scheme.
   * 3. A new one that takes any object.
   */
  async #createService(hub: JobHub, url: string): Promise<PullService> {
    const entry = Object.entries(this.#settings.services).find(
      ([given]) => normalizeUrl(given) === url,
    )
    const name = url.replace(/^https?:\/\//, '')
    // 2.
    const named = [...hub.services.values()].find(({ row }) => [name, url].includes(row.name))
    if (!entry && named) return named
    // 1. and 3.
    const given = entry?.[1] ?? {}
    const id = given.id ?? deriveServiceId(url)
    const row = {
      id,
      name: given.name ?? name.slice(0, SERVICE_TEXT_LIMITS.name),
      description: given.description ?? `jobs of ${url}`,
      timeout: given.timeout ?? DEFAULT_TIMEOUT,
      registration: JSON.stringify(given.jobRegistrationSchema ?? ANY_OBJECT),
      result: JSON.stringify(given.jobResultSchema ?? ANY_OBJECT),
      token: given.token === undefined ? undefined : digestToken(given.token),
    }
    const known = hub.services.get(id)
    if (!known) return hub.registerService(row)
    // The store has it from an earlier run. A declaration replaces what is stored; without one, the stored service stays.
    if (entry) {
      known.redefine(row)
      await hub.saveService(known, {})
    }
    return known
  }

  /**
   * The number of workers of the service. If the hub could not be opened, the limit: then a start is tried, and its error
   * says why it fails.
   */
  available(url: string): number {
    const service = this.#knownServices.get(normalizeUrl(url))
    if (service) return service.isUnavailable ? 0 : service.workers.size
    if (this.#failure) return this.limit
    void this.serviceId(url).catch((error) => {
      this.#failure = asError(error)
    })
    return 0
  }

  onAvailable(listener: () => void): () => void {
    return this.#events.on('available', listener)
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    signal.throwIfAborted()
    const { hub } = await this.#open()
    const service = await this.#findOrCreateService(hub, spec.service)
    const onGone = (instance: PullInstance): void => {
      if (instance.worker?.instance === instance) instance.worker.instance = undefined
      instance.worker = undefined
      service.notifyStarts()
    }
    const instance = await onFreeWorker(
      service,
      signal,
      (worker) => new PullInstance(spec, worker, onGone),
    )
    instance.dispatcher = createJobDispatcher(hub, service, instance, this.#settings.bodySize)
    return instance
  }

  async close(): Promise<void> {
    this.#isClosed = true
    const opened = await this.#opening?.catch(() => undefined)
    this.#hub?.close()
    this.#removeMetrics?.()
    await opened?.server?.close()
  }
}

const ANY_OBJECT = { type: 'object' }
/** Timeout of a service that is not declared with one, in ms. */
const DEFAULT_TIMEOUT = 30_000

/**
 * Waits for a worker that is no instance yet, and makes it one. `createInstance` is called in the turn in which the worker
 * is found, so that no other start finds the same worker.
 */
function onFreeWorker(
  service: PullService,
  signal: AbortSignal,
  createInstance: (worker: WorkerRecord) => PullInstance,
): Promise<PullInstance> {
  const { promise, resolve, reject } = deferred<PullInstance>()
  const look = (): void => {
    const worker = service.isUnavailable ? undefined : service.findFreeWorker()
    if (!worker) return
    settle()
    resolve(createInstance(worker))
  }
  const giveUp = (): void => {
    settle()
    reject(signal.reason)
  }
  const settle = (): void => {
    service.waitingStarts.delete(look)
    signal.removeEventListener('abort', giveUp)
  }
  service.waitingStarts.add(look)
  signal.addEventListener('abort', giveUp, { once: true })
  if (signal.aborted) giveUp()
  else look()
  return promise
}

/** libsql is a library of machine code, so it is only loaded when there is a file. */
async function openJobStore(store: string | JobStore | undefined): Promise<JobStore> {
  if (typeof store !== 'string') return store ?? new MemoryJobStore()
  const { SqliteJobStore } = await import('./sqlite.ts')
  return new SqliteJobStore(store)
}

/** As the session writes a virtual URL: `http://calc`. */
function normalizeUrl(url: string): string {
  return URL.canParse(url) ? new URL(url).href.replace(/\/$/, '') : url
}
