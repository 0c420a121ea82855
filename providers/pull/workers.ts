/** The provider: its instances are workers that poll, and its services are the API's. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { asError, ManyhostError } from '../../src/core/errors.ts'
import { Emitter } from '../../src/core/events.ts'
import type { Capability, Provider, Running, StartSpec } from '../../src/core/provider.ts'
import { digest } from './access.ts'
import { Api } from './api.ts'
import { type Door, openDoor } from './door.ts'
import { Hub } from './hub.ts'
import { idOf } from './id.ts'
import type { Seat } from './job.ts'
import { mailbox } from './mailbox.ts'
import { registerMetrics } from './metrics.ts'
import { parseWorkers, type WorkersOptions, type WorkersSettings } from './options.ts'
import { Place } from './place.ts'
import type { Service } from './service.ts'
import { type JobStore, MemoryStore } from './store.ts'

export interface WorkersProvider extends Provider {
  /** Workers of a service that are instances at a time, at most. */
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
  return new Workers(parseWorkers(options))
}

class Workers implements WorkersProvider {
  readonly name = 'pull'
  readonly capabilities: ReadonlySet<Capability> = new Set()
  readonly limit: number
  readonly #settings: WorkersSettings
  readonly #api: Api
  /** By virtual URL. */
  readonly #services = new Map<string, Promise<Service>>()
  readonly #known = new Map<string, Service>()
  readonly #events = new Emitter<{ available: undefined }>('provider pull')
  #opening: Promise<{ hub: Hub; door: Door | undefined }> | undefined
  #hub: Hub | undefined
  #failure: Error | undefined
  #isClosed = false
  readonly #removeMetrics: (() => void) | undefined

  constructor(settings: WorkersSettings) {
    this.#settings = settings
    this.limit = settings.maxWorkers
    const { prefix, token, bodySize, maxWait, about } = settings
    this.#api = new Api(async () => this.#hub ?? (await this.#open()).hub, {
      prefix,
      token,
      bodySize,
      maxWait: Math.floor(maxWait / 1_000),
      about,
    })
    const { registry } = settings
    this.#removeMetrics = registry && registerMetrics(registry, () => this.#hub)
  }

  readonly handler = (request: IncomingMessage, response: ServerResponse): void => {
    void this.#api.handle(request, response)
  }

  async ready(): Promise<{ url: string | undefined }> {
    const { door } = await this.#open()
    return { url: door && `${door.url}${this.#settings.prefix}` }
  }

  #open(): Promise<{ hub: Hub; door: Door | undefined }> {
    if (this.#isClosed) {
      const closed = new ManyhostError('MANYHOST_SESSION_CLOSED', 'workers: the provider is closed')
      return Promise.reject(closed)
    }
    this.#opening ??= this.#reallyOpen().catch((error) => {
      // The next one tries again: a port may become free.
      this.#opening = undefined
      this.#failure = asError(error)
      throw error
    })
    return this.#opening
  }

  async #reallyOpen(): Promise<{ hub: Hub; door: Door | undefined }> {
    const { store, listen, tls, services } = this.#settings
    const hub = this.#hub ?? new Hub(await openStore(store), this.#settings)
    this.#hub = hub
    // Workers and the clients of the API may come before any session has started a service.
    for (const url of Object.keys(services)) await this.#bind(hub, url)
    const door = listen && (await openDoor(listen, tls, this.handler))
    this.#failure = undefined
    return { hub, door }
  }

  async serviceId(url: string): Promise<string> {
    const { hub } = await this.#open()
    return (await this.#bind(hub, url)).row.id
  }

  /** As the session writes it: `http://calc`. */
  #bind(hub: Hub, url: string): Promise<Service> {
    const key = normal(url)
    let found = this.#services.get(key)
    if (!found) {
      found = this.#make(hub, key).then((service) => {
        this.#known.set(key, service)
        const tell = (): void => this.#events.emit('available', undefined)
        service.starters.add(tell)
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
  async #make(hub: Hub, url: string): Promise<Service> {
    const entry = Object.entries(this.#settings.services).find(([given]) => normal(given) === url)
    const name = url.replace(/^https?:\/\//, '')
    const named = [...hub.services.values()].find(({ row }) => [name, url].includes(row.name))
    if (!entry && named) return named
    const given = entry?.[1] ?? {}
    const id = given.id ?? idOf(url)
    const row = {
      id,
      name: given.name ?? name.slice(0, 30),
      description: given.description ?? `jobs of ${url}`,
      timeout: given.timeout ?? 30_000,
      registration: JSON.stringify(given.jobRegistrationSchema ?? ANY),
      result: JSON.stringify(given.jobResultSchema ?? ANY),
      token: given.token === undefined ? undefined : digest(given.token),
    }
    const known = hub.services.get(id)
    if (!known) return hub.register(row)
    // Of a store of before. What the options say holds; without any, what it was patched to.
    if (entry) {
      known.become(row)
      await hub.saveService(known, {})
    }
    return known
  }

  /**
   * As many as there are workers; where it cannot be known, all: the start will say why not.
   */
  available(url: string): number {
    const service = this.#known.get(normal(url))
    if (service) return service.isShut ? 0 : service.seats.size
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
    const service = await this.#bind(hub, spec.service)
    const onGone = (place: Place): void => {
      if (place.seat?.place === place) place.seat.place = undefined
      place.seat = undefined
      service.wake()
    }
    const place = await onFreeSeat(service, signal, (seat) => new Place(spec, seat, onGone))
    place.dispatcher = mailbox(hub, service, place, this.#settings.bodySize)
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

const ANY = { type: 'object' }

/** Waits for a worker that is there and no instance yet, and takes it; rejects with the signal's reason. */
function onFreeSeat(
  service: Service,
  signal: AbortSignal,
  take: (seat: Seat) => Place,
): Promise<Place> {
  return new Promise((resolve, reject) => {
    const look = (): void => {
      const seat = service.isShut ? undefined : service.freeSeat()
      if (!seat) return
      settle()
      resolve(take(seat))
    }
    const give = (): void => {
      settle()
      reject(signal.reason)
    }
    const settle = (): void => {
      service.starters.delete(look)
      signal.removeEventListener('abort', give)
    }
    if (signal.aborted) return give()
    service.starters.add(look)
    signal.addEventListener('abort', give, { once: true })
    look()
  })
}

/** libsql is loaded where a file is asked for, and nowhere else: it is a library of machine code. */
async function openStore(store: string | JobStore | undefined): Promise<JobStore> {
  if (typeof store !== 'string') return store ?? new MemoryStore()
  const { SqliteStore } = await import('./sqlite.ts')
  return new SqliteStore(store)
}

function normal(url: string): string {
  return URL.canParse(url) ? new URL(url).href.replace(/\/$/, '') : url
}
