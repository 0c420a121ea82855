/** The session: owns the services and their clusters, and ends them. */
import { randomBytes } from 'node:crypto'
import { Agent, type Dispatcher, fetch as undiciFetch } from 'undici'
import { Client, type ClientOptions } from '../client/client.ts'
import { CLIENT_RULES } from '../client/options.ts'
import { discardRedirectBodies } from '../client/redirect.ts'
import { Cluster } from '../cluster/cluster.ts'
import type { CloseOptions } from '../cluster/cluster-parts.ts'
import { restartInstances, rollOver } from '../cluster/rolling.ts'
import type { ClusterSettings } from '../cluster/settings.ts'
import { createConnector, DEFAULT_HEADER_SIZE } from '../core/connector.ts'
import { deferred } from '../core/deferred.ts'
import { ManyhostError } from '../core/errors.ts'
import { Emitter, type SessionEvents, type TaskEvent } from '../core/events.ts'
import { createPatchedPool } from '../core/http/patched-pool.ts'
import { parseOptions } from '../core/options.ts'
import type { Provider, Startup } from '../core/provider.ts'
import { parseVirtualUrl, ServiceRegistry } from '../core/registry.ts'
import { after, wallClock } from '../core/time.ts'
import { type ErrorReporter, emitWarning, guardRandom } from '../core/user-functions.ts'
import { createInterceptor, type MountedService } from '../dispatch/interceptor.ts'
import { RequestIds, type RequestRouting } from '../dispatch/request-input.ts'
import { ROUTING_RULES } from '../dispatch/routing.ts'
import { mayRepeat } from '../dispatch/verdict.ts'
import type { SizeSpec } from '../sizing/size.ts'
import { Budget } from './budget.ts'
import {
  checkMapOptions,
  defaultMapConcurrency,
  type MapOptions,
  type Mapped,
  type MapSource,
  mapItems,
} from './map.ts'
import { SESSION_RULES } from './options.ts'
import { parseService, type Service, type ServiceOptions } from './service.ts'
import { PendingUpdates, type ServiceUpdate, startUpdate } from './service-updates.ts'
import { SessionProviders } from './session-providers.ts'
import { type Snapshot, takeSnapshot } from './snapshot.ts'

/** Options of `new Session`; README has the table. */
export interface SessionCoreOptions {
  /** Where instances run, unless their service says otherwise. @default processes() */
  readonly provider?: Provider
  /** Milliseconds between two reads of each size. @default 1000 */
  readonly tickInterval?: number
  /** Greatest number of instances of all services together. */
  readonly budget?: { readonly instances: number }
  /** Source of every random choice, in [0, 1): for tests that are to be repeatable. @default Math.random */
  readonly random?: () => number
}

/** Milliseconds that requests to the network may take to end when the session closes. */
const NETWORK_TIMEOUT = 30_000

export class SessionCore implements AsyncDisposable {
  readonly #provider: Provider
  readonly #tickInterval: number
  readonly #random: () => number
  readonly #budget: Budget | undefined
  readonly #registry = new ServiceRegistry<Cluster>()
  /** All clusters that are not closed yet, also those that take over, give way or were removed. */
  readonly #clusters = new Set<Cluster>()
  readonly #emitter = new Emitter<SessionEvents>('session')
  /** Reports failures of functions of the user: as an event if it has a listener, else as a warning of the process. */
  readonly #report: ErrorReporter = (error) => {
    if (this.#emitter.hasListeners('error')) this.#emitter.emit('error', error)
    else emitWarning(error)
  }
  readonly #network = new Agent({
    connect: createConnector(),
    maxHeaderSize: DEFAULT_HEADER_SIZE,
    factory: createPatchedPool,
  })
  readonly #ids = new RequestIds()
  readonly #instancePrefix = randomBytes(4).toString('hex')
  readonly #providers = new SessionProviders(
    (event) => this.#emitter.emit('agent', event),
    this.#report,
  )
  readonly #updates = new PendingUpdates()
  readonly #mounts = new WeakMap<Cluster, MountedService>()
  #instanceCount = 0
  #closedError: ManyhostError | undefined
  #closing: Promise<void> | undefined
  #stopWaitingForNetwork = (): void => undefined

  constructor(options: SessionCoreOptions & { readonly provider: Provider }) {
    const parsed = parseOptions('Session', options, SESSION_RULES)
    this.#provider = parsed.provider as Provider
    this.#tickInterval = parsed.tickInterval
    this.#random = guardRandom(parsed.random, {
      what: 'the random of the session',
      report: this.#report,
    })
    if (parsed.budget) {
      this.#budget = new Budget(parsed.budget.instances, () => this.#clusters)
    }
  }

  /**
   * Registers a service and starts its cluster. A command starts an instance, or a function whose calls act on the machine
   * of the instance.
   * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_INVALID_URL, MANYHOST_DUPLICATE_SERVICE,
   * MANYHOST_UNSUPPORTED, MANYHOST_SESSION_CLOSED
   */
  startup(options: ServiceOptions, startup?: Startup): Cluster {
    const { url, initSize, settings } = this.#parseService(options, startup)
    const cluster = this.#registry.add(url, () => this.#openCluster(settings, initSize))
    this.#emitter.emit('cluster', {
      service: cluster.url,
      change: 'added',
      size: cluster.size,
      at: wallClock(),
    })
    return cluster
  }

  #parseService(options: ServiceOptions, startup: Startup | undefined): Service {
    if (this.#closedError) throw this.#closedError
    return parseService(options, startup, {
      provider: this.#provider,
      tickInterval: this.#tickInterval,
      random: this.#random,
      report: this.#report,
    })
  }

  #openCluster(settings: ClusterSettings, size: number): Cluster {
    const name = parseVirtualUrl(settings.url).host.replace(/[^\w.-]/g, '-')
    const cluster = new Cluster(settings, Math.max(size, settings.minSize), {
      emitter: this.#emitter,
      newId: () => `${name}-${this.#instancePrefix}-${++this.#instanceCount}`,
      onDemandChange: () => this.#budget?.scheduleShare(),
      availableInstances: () => this.#budget?.available ?? Number.POSITIVE_INFINITY,
      onClosed: () => this.#clusters.delete(cluster),
    })
    this.#clusters.add(cluster)
    this.#providers.add(settings.provider)
    this.#budget?.shareInstances()
    return cluster
  }

  /**
   * Changes a service without losing a request. New instances start with the new options, requests go to them as soon as one
   * is ready, and one old instance drains for each new one that is ready. Resolves when the old instances are gone. If no new
   * instance becomes ready, nothing changes. A newer update takes the place of one that is under way, which then rejects if
   * it was not in effect yet.
   * @throws ManyhostError as `startup`; MANYHOST_UNKNOWN_SERVICE; MANYHOST_START_FAILED; MANYHOST_ABORTED when a newer
   * update, or `remove`, came first
   */
  update(options: ServiceOptions, startup?: Startup): Promise<Cluster> {
    return this.beginUpdate(options, startup).done
  }

  /**
   * As `update`, and also says when the new instances have taken over, which is before the old instances are gone.
   * @internal
   */
  beginUpdate(options: ServiceOptions, startup?: Startup): ServiceUpdate {
    return startUpdate((onRolled) => this.#update(options, startup, onRolled))
  }

  async #update(
    options: ServiceOptions,
    startup: Startup | undefined,
    onRolled: () => void,
  ): Promise<Cluster> {
    const { url, initSize, settings } = this.#parseService(options, startup)
    const old = this.cluster(url.href)
    const update = this.#updates.begin(url.href)
    try {
      const next = this.#openCluster(settings, initSize > 0 ? 1 : 0)
      await rollOver(old, next, {
        size: initSize,
        onRolled,
        signal: update.signal,
        isSizeSet: () => update.isSizeSet,
        swap: () => {
          this.#registry.replace(url, next)
          update.applySize(next, this.#report)
        },
      })
      if (this.#closedError) throw this.#closedError
      return next
    } finally {
      this.#updates.end(url.href, update)
    }
  }

  /**
   * Replaces the instances of a service one after the other, or only the instance with this id. An old instance drains when
   * its replacement is ready. Resolves when the last old instance drains.
   * @throws ManyhostError MANYHOST_UNKNOWN_SERVICE, MANYHOST_START_FAILED
   */
  restart(url: string | URL, instance?: string): Promise<void> {
    return restartInstances(this.cluster(url), instance)
  }

  /**
   * Removes a service: refuses new requests, lets running and waiting requests end, and stops the instances.
   * @throws ManyhostError MANYHOST_UNKNOWN_SERVICE
   */
  async remove(url: string | URL, options: CloseOptions = {}): Promise<void> {
    const cluster = this.cluster(url)
    this.#updates.abort(cluster.url, 'the service was removed')
    this.#registry.remove(parseVirtualUrl(url))
    await cluster.close(options)
  }

  /** A client for virtual URLs and all other URLs. It reaches services that are registered later, too. */
  client(options: ClientOptions = {}): Client {
    parseOptions('client', options, CLIENT_RULES)
    return new Client(
      {
        registry: this.#registry,
        network: this.#network,
        ids: this.#ids,
        refusal: () => this.#closedError,
      },
      options,
    )
  }

  /** An undici dispatcher: for undici's `request`, `stream`, `pipeline`, `fetch`, and Node's own `fetch`. */
  dispatcher(defaults: RequestRouting = {}): Dispatcher {
    parseOptions('dispatcher', defaults, ROUTING_RULES)
    return this.#network.compose(
      createInterceptor((origin, path) => this.#findMounted(origin, path), this.#ids, defaults),
    )
  }

  /**
   * Sends one request per item of a source: `for await (const { item, value, error } of session.map(url, items)) ...`. The
   * number of requests at a time is bounded, and the source is read no faster than outcomes are taken.
   * @throws ManyhostError MANYHOST_INVALID_OPTION; MANYHOST_UNKNOWN_SERVICE if no service has the URL
   */
  map<Item, Value = unknown>(
    url: string | URL,
    source: MapSource<Item>,
    options: MapOptions<Item, Value> = {},
  ): AsyncGenerator<Mapped<Item, Value>, void, undefined> {
    checkMapOptions(options)
    const { origin, pathname } = new URL(url)
    const cluster = this.#registry.match(origin, pathname) ?? this.cluster(url)
    const slots = cluster.size * cluster.settings.concurrency
    const concurrency = options.concurrency ?? defaultMapConcurrency(slots)
    return mapItems(this.client(), url, source, options, concurrency)
  }

  /** `fetch` of the same undici as the dispatcher, routed through this session. */
  fetch(...[input, init]: Parameters<typeof undiciFetch>): ReturnType<typeof undiciFetch> {
    const dispatcher = this.dispatcher()
    // With 'manual' the caller gets the redirect itself, with its body.
    const own = typeof input === 'object' && 'redirect' in input ? input.redirect : undefined
    const mode = init?.redirect ?? own
    return undiciFetch(input, {
      ...init,
      dispatcher: mode === 'manual' ? dispatcher : dispatcher.compose(discardRedirectBodies),
    })
  }

  #findMounted(origin: string, path: string): MountedService | undefined {
    const cluster = this.#registry.match(origin, path)
    if (!cluster) return undefined
    if (this.#closedError) throw this.#closedError
    let mounted = this.#mounts.get(cluster)
    if (!mounted) {
      const { dispatch } = cluster.settings
      mounted = {
        replayLimit: dispatch.replayLimit,
        keepsBody: (method, { resend, idempotencyKey }) =>
          mayRepeat(resend ?? dispatch.resend, method, idempotencyKey !== undefined),
        send: (input, sink) => cluster.send(input, sink),
      }
      this.#mounts.set(cluster, mounted)
    }
    return mounted
  }

  /**
   * Sets how many instances a service has: an integer, a function that is called again and again, a load balancer class, or
   * anything that can be read as a number.
   * @throws ManyhostError MANYHOST_UNKNOWN_SERVICE, MANYHOST_INVALID_SIZE
   */
  setSize(url: string | URL, size: SizeSpec<Cluster>): void {
    if (this.#closedError) throw this.#closedError
    const cluster = this.cluster(url)
    cluster.setSize(size)
    this.#updates.get(cluster.url)?.recordSize(size)
  }

  /** @throws ManyhostError MANYHOST_UNKNOWN_SERVICE */
  cluster(url: string | URL): Cluster {
    const cluster = this.#registry.get(parseVirtualUrl(url))
    if (cluster) return cluster
    const known = this.#registry.hrefs().join(', ') || 'none'
    throw new ManyhostError('MANYHOST_UNKNOWN_SERVICE', `no service is at ${url}; known: ${known}`)
  }

  /** The service that answers `path` of `origin`, such as `http://calc`, if there is one. */
  match(origin: string, path: string): Cluster | undefined {
    return this.#registry.match(origin, path)
  }

  /** Makes the ids of all requests of this session. @internal */
  get ids(): RequestIds {
    return this.#ids
  }

  /** Whether the session refuses new requests. */
  get isClosed(): boolean {
    return this.#closedError !== undefined
  }

  get clusters(): readonly Cluster[] {
    return [...this.#registry.values()]
  }

  /** Subscribes to an event. @returns a function that unsubscribes */
  on<Name extends keyof SessionEvents>(
    name: Name,
    listener: (event: SessionEvents[Name]) => void,
  ): () => void {
    return this.#emitter.on(name, listener)
  }

  off<Name extends keyof SessionEvents>(
    name: Name,
    listener: (event: SessionEvents[Name]) => void,
  ): void {
    this.#emitter.off(name, listener)
  }

  /**
   * Emits the event of a task, for a task server that uses this session. `make` is called only if the event has a listener.
   * @internal
   */
  emitTask(make: () => TaskEvent): void {
    if (this.#emitter.hasListeners('task')) this.#emitter.emit('task', make())
  }

  /** The whole state as plain data. */
  snapshot(): Snapshot {
    return takeSnapshot(this.clusters)
  }

  /**
   * Ends the session: refuses new requests, lets running and waiting requests end, and stops the instances. With `force`, or
   * after `timeout`, the requests that are left fail. Every request settles. Idempotent.
   */
  close(options: CloseOptions = {}): Promise<void> {
    this.#closedError ??= new ManyhostError('MANYHOST_SESSION_CLOSED', 'the session is closed')
    const closing = Promise.all([...this.#clusters].map((cluster) => cluster.close(options)))
    if (options.force) this.#stopWaitingForNetwork()
    this.#closing ??= this.#close(closing, options)
    return this.#closing
  }

  async #close(
    clusters: Promise<unknown>,
    { force, timeout = NETWORK_TIMEOUT }: CloseOptions,
  ): Promise<void> {
    await clusters
    await this.#providers.closeAll()
    // Some requests to the network may never end. undici cannot cut what it closes, so they are left to themselves.
    const timedOut = deferred<void>()
    this.#stopWaitingForNetwork = () => timedOut.resolve()
    const timer = after(timeout, () => timedOut.resolve())
    const network = force ? this.#network.destroy() : this.#network.close()
    // Rejects if a user who got a dispatcher has closed the network himself.
    await Promise.race([network, timedOut.promise]).catch(() => undefined)
    timer.clear()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
