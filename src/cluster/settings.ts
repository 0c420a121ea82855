/** What a service asks of the control plane, parsed and complete: see `options.ts` for defaults and ranges. */

import type { Provider, StartSpec } from '../core/provider.ts'
import type { ErrorReporter } from '../core/user-functions.ts'
import type { DispatchSettings } from '../dispatch/settings.ts'

export type OnStop = 'restart' | 'raise' | 'ignore'

export interface HealthSettings {
  readonly path: string
  /** Milliseconds between two checks of one instance, and the time that each may take. */
  readonly interval: number
  /** Failures in a row that make an instance unready; twice as many replace it. */
  readonly threshold: number
}

export interface ClusterSettings {
  readonly url: string
  readonly provider: Provider
  /** What `Provider.start` is given, beside the instance's id and output. */
  readonly spec: Omit<StartSpec, 'id' | 'onOutput'>
  readonly dispatch: DispatchSettings
  readonly minSize: number
  readonly maxSize: number
  readonly concurrency: number
  readonly maxStarting: number
  readonly ready: string | undefined
  readonly health: HealthSettings | undefined
  readonly startTimeout: number
  readonly drainTimeout: number
  readonly stopGrace: number
  /** Milliseconds over which a new instance comes to its full number of places. */
  readonly slowStart: number
  readonly onStop: OnStop
  readonly tickInterval: number
  /** Source of every random choice, in [0, 1). */
  readonly random: () => number
  /** Takes reports of what the user gave and what failed. @default a warning of the process */
  readonly report?: ErrorReporter | undefined
}
