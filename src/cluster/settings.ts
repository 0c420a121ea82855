/** The options of a service that concern the control plane. */

import {
  milliseconds,
  nested,
  oneOf,
  optional,
  type ParsedOptions,
  text,
  whole,
} from '../core/options.ts'
import type { Provider, StartSpec } from '../core/provider.ts'
import type { ErrorReporter } from '../core/user-functions.ts'
import type { DispatchSettings } from '../dispatch/settings.ts'
import { isPath } from '../dispatch/validate-request.ts'

/** What happens when an instance ends that was up and wanted. */
export type OnStop = 'restart' | 'raise' | 'ignore'

/** The path is sent as it is. A path that undici refuses would fail each probe, so it is refused here. */
const pathRule = text(
  "a path that begins with '/', as in a request",
  (value) => value.startsWith('/') && isPath(value, 'GET'),
)

const HEALTH_RULES = {
  path: pathRule,
  /** Milliseconds between two checks of one instance, and the time that each check may take. */
  interval: milliseconds(5_000),
  /** Failures in a row that make an instance unready; twice as many replace it. */
  threshold: whole(1, 3),
} as const

export type HealthSettings = ParsedOptions<typeof HEALTH_RULES>
type HealthOptions = Pick<HealthSettings, 'path'> & Partial<HealthSettings>

/** Every such option with its range and default. */
export const CLUSTER_RULES = {
  /** The least number of instances. */
  minSize: whole(0, 0),
  /** The greatest number of instances. The provider may have fewer. */
  maxSize: whole(0, Number.POSITIVE_INFINITY),
  /** Requests that one instance serves at a time. */
  concurrency: whole(1, 1),
  /** Instances that may be starting at a time. */
  maxStarting: whole(1, 32),
  /** An instance is ready when it answers a GET of this path with 2xx, and not as soon as it accepts connections. */
  ready: optional(pathRule),
  /** Checks of instances that are ready. */
  health: optional(
    nested<HealthSettings, HealthOptions>('{ path, interval, threshold }', HEALTH_RULES, ['path']),
  ),
  /** Milliseconds from the start of an instance until it must be ready. */
  startTimeout: milliseconds(60_000),
  /** Milliseconds that an instance may take for the requests that it still has when it is to stop. */
  drainTimeout: milliseconds(30_000, 'requests are taken away at once'),
  /** Milliseconds between the polite end of an instance and its end by force. */
  stopGrace: milliseconds(5_000, 'stopped by force'),
  /** Milliseconds over which a new instance comes to its full number of slots. */
  slowStart: milliseconds(0, 'all slots at once'),
  /** What happens when an instance ends that was up and wanted. */
  onStop: oneOf<OnStop>(['restart', 'raise', 'ignore'], 'restart'),
} as const

export interface ClusterSettings extends ParsedOptions<typeof CLUSTER_RULES> {
  readonly url: string
  readonly provider: Provider
  /** What `Provider.start` is given, beside the instance's id and output. */
  readonly spec: Omit<StartSpec, 'id' | 'onOutput'>
  readonly dispatch: DispatchSettings
  /** Milliseconds between two reads of the size. */
  readonly tickInterval: number
  /** Source of every random choice, in [0, 1). */
  readonly random: () => number
  /** Takes reports of functions of the user that failed. @default a warning of the process */
  readonly report?: ErrorReporter | undefined
}
