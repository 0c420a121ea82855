/** The public entry. It puts the session of users together: the core, processes as the default provider, metrics and feed. */
import { Registry } from 'prom-client'
import { processes } from '../providers/process/index.ts'
import type { CloseOptions } from './cluster/cluster-parts.ts'
import { Feed } from './feed/broker.ts'
import type { FeedOptions } from './feed/broker-options.ts'
import { registerSessionMetrics } from './session/metrics.ts'
import { publishSession } from './session/publish-events.ts'
import { SessionCore, type SessionCoreOptions } from './session/session.ts'

/** Options of `new Session`; README has the table. */
export interface SessionOptions extends SessionCoreOptions {
  /**
   * Where the metrics are registered; `close()` takes them out again. Sessions may share one: the series of the second
   * and further ones have the label `session`. @default a new registry
   */
  readonly registry?: Registry
  /**
   * Tells what happens in the session on the channels of a feed, `manyhost.instance` and so on: options of one, which
   * is then the session's own and ends with it, or a `Feed` of somebody else. It listens by `session.feed.listen()`.
   */
  readonly feed?: Feed | FeedOptions
}

/** Owns services, their clusters, and their end. The constructor starts nothing. */
export class Session extends SessionCore {
  /** Metrics of this session, for Prometheus: `await session.metrics.metrics()`. */
  readonly metrics: Registry
  /** Where it says what happens; undefined without the option. */
  readonly feed: Feed | undefined
  readonly #ownsFeed: boolean
  readonly #removeMetrics: () => void

  constructor({ registry = new Registry(), feed, ...options }: SessionOptions = {}) {
    super({ provider: processes(), ...options })
    this.metrics = registry
    this.#ownsFeed = feed !== undefined && !(feed instanceof Feed)
    this.#removeMetrics = registerSessionMetrics(() => this.clusters, registry)
    try {
      this.feed =
        feed === undefined || feed instanceof Feed ? feed : new Feed({ registry, ...feed })
    } catch (error) {
      this.#removeMetrics()
      throw error
    }
    if (this.feed) publishSession(this.feed, this)
  }

  /**
   * As the core's. Its metrics leave the registry when all has ended; the feed that was made for it ends last, so that
   * the end is told, too.
   */
  override async close(options: CloseOptions = {}): Promise<void> {
    try {
      await super.close(options)
    } finally {
      this.#removeMetrics()
      if (this.#ownsFeed) await this.feed?.close()
    }
  }
}

export type { Client, ClientOptions } from './client/client.ts'
export type { RequestOptions } from './client/request.ts'
export type { Response, Timing } from './client/response.ts'
export type { Cluster } from './cluster/cluster.ts'
export type { CloseOptions } from './cluster/cluster-parts.ts'
export type { Instance } from './cluster/instance.ts'
export { type AttemptReport, ERRORS, type ErrorCode, ManyhostError } from './core/errors.ts'
export type {
  AgentEvent,
  ClusterEvent,
  InstanceEvent,
  InstanceState,
  Outcome,
  RequestEvent,
  ResendEvent,
  SessionEvents,
  TaskEvent,
} from './core/events.ts'
export type {
  Capability,
  Exit,
  ListenOn,
  Provider,
  Running,
  StartSpec,
  Startup,
  StartupContext,
} from './core/provider.ts'
export type { Candidate, Pick, PickFacts } from './dispatch/balance.ts'
export type { Body } from './dispatch/body.ts'
export type { HeadersLike, RequestRouting } from './dispatch/request-input.ts'
export type { FairnessRequest, ResendPolicy } from './dispatch/settings.ts'
export type { TrafficStats } from './dispatch/stats.ts'
export type { MapOptions, Mapped, MapRequest, MapSource } from './session/map.ts'
export { type Publisher, type PublishOptions, publishEvents } from './session/publish-events.ts'
export type { ServiceOptions } from './session/service.ts'
export { EVENTS_VERSION, type FeedEnvelope } from './session/session-messages.ts'
export type { ClusterSnapshot, InstanceSnapshot, Snapshot } from './session/snapshot.ts'
export {
  IdleToZero,
  QueueLength,
  SimpleLoadBalancer,
  TargetInFlight,
} from './sizing/policies.ts'
export type { Coercible, SizeClass, SizeFunction, SizeSpec } from './sizing/size.ts'
export { bounds, idleToZero, scaleDownDelay, step } from './sizing/wrappers.ts'
