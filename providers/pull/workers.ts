/** The provider: its instances are workers that poll, and its services are the API's. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { asError, ManyhostError } from '../../src/core/errors.ts'
import { Emitter } from '../../src/core/events.ts'
import type { Capability, Provider, Running, StartSpec } from '../../src/core/provider.ts'
import { digestToken } from './access.ts'
import { PullApi } from './api.ts'
import { type PullApiServer, startApiServer } from './api-server.ts'
import { createJobDispatcher } from './job-dispatcher.ts'
import { JobHub } from './job-hub.ts'
import { type JobStore, MemoryJobStore } from './job-store.ts'
import { registerPullMetrics } from './metrics.ts'
import type { WorkerRecord } from './open-job.ts'
import { parseWorkersOptions, type WorkersOptions, type WorkersSettings } from './options.ts'
import { PullInstance } from './pull-instance.ts'
import type { PullService } from './pull-service.ts'
import { deriveServiceId } from './service-id.ts'

export interface WorkersProvider extends Provider {
  /** PullProvider of a service that are instances at a time, at most. */
  readonly limit: number
  /** For a server that mounts the API at `prefix`; of `node:http`, or an Express application. */
  readonly handler: (request: IncomingMessage, response: ServerResponse) => void
  /**
   * Opens the store and, where there is a `listen`, the port; resolves with its URL. It happens by itself when the first
   * service starts or the first request comes.
   * @throws ManyhostError MANYHOST_INVALID_OPTION
   */
  ready(): Promise<{ readonly url: string | undefined }>
  /** Id of the API's service that the virtual URL stands for, which is made if there is none. */
  serviceId(url: string): Promise<string>
}

/**
 * Serves by workers that ask for their work over HTTP. They need nothing but a way out to us.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function workers(options: WorkersOptions = {}): WorkersProvider {
  return new PullProvider(parseWorkersOptions(options))
}

class PullProvider implements WorkersProvider {
  readonly name = 'pull'
  readonly capabilities: ReadonlySet<Capability> = new Set()
  readonly limit: number
  readonly #settings: WorkersSettings
  readonly #api: PullApi
  /** By virtual URL. */
  readonly #services = new Map<string, Promise<PullService>>()
  readonly #knownServices = new Map<string, PullService>()
  readonly #events = new Emitter<{ available: undefined }>('provider pull')
  #opening: Promise<{ hub: JobHub; door: PullApiServer | undefined }> | undefined
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
    const { door } = await this.#open()
    return { url: door && `${door.url}${this.#settings.prefix}` }
  }

  #open(): Promise<{ hub: JobHub; door: PullApiServer | undefined }> {
    if (this.#isClosed) {
      const closed = new ManyhostError('MANYHOST_SESSION_CLOSED', 'workers: the provider is closed')
      return Promise.reject(closed)
    }
    this.#opening ??= this.#openHub().catch((error) => {
      // The next one tries again: a port may become free.
      this.#opening = undefined
      this.#failure = asError(error)
      throw error
    })
    return this.#opening
  }

  async #openHub(): Promise<{ hub: JobHub; door: PullApiServer | undefined }> {
    const { store, listen, tls, services } = this.#settings
    const hub = this.#hub ?? new JobHub(await openJobStore(store), this.#settings)
    this.#hub = hub
    // PullProvider and the clients of the API may come before any session has started a service.
    for (const url of Object.keys(services)) await this.#findOrCreateService(hub, url)
    const door = listen && (await startApiServer(listen, tls, this.handler))
    this.#failure = undefined
    return { hub, door }
  }

  async serviceId(url: string): Promise<string> {
    const { hub } = await this.#open()
    return (await this.#findOrCreateService(hub, url)).row.id
  }

  /** As the session writes it: `http://calc`. */
  #findOrCreateService(hub: JobHub, url: string): Promise<PullService> {
    const key = normalizeUrl(url)
    let found = this.#services.get(key)
    if (!found) {
      found = this.#createService(hub, key).then((service) => {
        this.#knownServices.set(key, service)
        const tell = (): void => this.#events.emit('available', undefined)
        service.waitingStarts.add(tell)
        tell()
        return service
      })
      // What could not be made is tried again when it is asked for again.
      found.catch(() => this.#services.delete(key))
      this.#services.set(key, found)
    }
    return found
  }

  /** The declared one, or one that registered by that name, or a new one that takes any object. */
  async #createService(hub: JobHub, url: string): Promise<PullService> {
    const entry = Object.entries(this.#settings.services).find(
      ([given]) => normalizeUrl(given) === url,
    )
    const name = url.replace(/^https?:\/\//, '')
    const named = [...hub.services.values()].find(({ row }) => [name, url].includes(row.name))
    if (!entry && named) return named
    const given = entry?.[1] ?? {}
    const id = given.id ?? deriveServiceId(url)
    const row = {
      id,
      name: given.name ?? name.slice(0, 30),
      description: given.description ?? `jobs of ${url}`,
      timeout: given.timeout ?? 30_000,
      registration: JSON.stringify(given.jobRegistrationSchema ?? ANY_OBJECT),
      result: JSON.stringify(given.jobResultSchema ?? ANY_OBJECT),
      token: given.token === undefined ? undefined : digestToken(given.token),
    }
    const known = hub.services.get(id)
    if (!known) return hub.registerService(row)
    // Of a store of before. What the options say holds; without any, what it was patched to.
    if (entry) {
      known.redefine(row)
      await hub.saveService(known, {})
    }
    return known
  }

  /**
   * As many as there are workers; where it cannot be known, all: the start will say why not.
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
    const onGone = (place: PullInstance): void => {
      if (place.worker?.instance === place) place.worker.instance = undefined
      place.worker = undefined
      service.notifyStarts()
    }
    const place = await onFreeWorker(
      service,
      signal,
      (seat) => new PullInstance(spec, seat, onGone),
    )
    place.dispatcher = createJobDispatcher(hub, service, place, this.#settings.bodySize)
    return place
  }

  async close(): Promise<void> {
    this.#isClosed = true
    const opened = await this.#opening?.catch(() => undefined)
    this.#hub?.close()
    this.#removeMetrics?.()
    await opened?.door?.close()
  }
}

const ANY_OBJECT = { type: 'object' }

/** Waits for a worker that is there and no instance yet, and takes it; rejects with the signal's reason. */
function onFreeWorker(
  service: PullService,
  signal: AbortSignal,
  createInstance: (seat: WorkerRecord) => PullInstance,
): Promise<PullInstance> {
  return new Promise((resolve, reject) => {
    const look = (): void => {
      const seat = service.isUnavailable ? undefined : service.findFreeWorker()
      if (!seat) return
      settle()
      resolve(createInstance(seat))
    }
    const give = (): void => {
      settle()
      reject(signal.reason)
    }
    const settle = (): void => {
      service.waitingStarts.delete(look)
      signal.removeEventListener('abort', give)
    }
    if (signal.aborted) return give()
    service.waitingStarts.add(look)
    signal.addEventListener('abort', give, { once: true })
    look()
  })
}

/** libsql is loaded where a file is asked for, and nowhere else: it is a library of machine code. */
async function openJobStore(store: string | JobStore | undefined): Promise<JobStore> {
  if (typeof store !== 'string') return store ?? new MemoryJobStore()
  const { SqliteJobStore } = await import('./sqlite.ts')
  return new SqliteJobStore(store)
}

function normalizeUrl(url: string): string {
  return URL.canParse(url) ? new URL(url).href.replace(/\/$/, '') : url
}
