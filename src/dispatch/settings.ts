/** What a service asks of the data plane, parsed and complete: see `options.ts` for defaults and ranges. */
import type { ErrorReporter } from '../core/user-functions.ts'
import type { Pick as PickTarget } from './balance.ts'

/** Which requests may be sent a second time after an attempt that may have been executed. */
export type ResendPolicy = 'always' | 'idempotent' | 'never'

export type BalanceName = 'least-in-flight' | 'round-robin' | 'peak-ewma'

/** What `fairness` is asked about. */
export interface FairnessRequest {
  readonly method: string
  readonly path: string
  readonly affinity: string | undefined
  /** Value of a request header, the first one of that name (any case). */
  header(name: string): string | undefined
}

export interface DispatchSettings {
  readonly service: string
  readonly maxQueue: number
  readonly queueTimeout: number
  readonly timeout: number
  readonly attemptTimeout: number
  readonly resend: ResendPolicy
  readonly maxAttempts: number
  readonly holdLimit: number
  /** Bytes of a request body that are kept in memory for another attempt. */
  readonly replayLimit: number
  readonly hedge: { readonly after: number | 'p95' } | undefined
  readonly balance: BalanceName | PickTarget
  readonly fairness: ((request: FairnessRequest) => string) | undefined
  /** Failed attempts in a row after which an instance is ejected. */
  readonly ejectAfter: number
  /** Source of every random choice, in [0, 1). */
  readonly random: () => number
  /** Takes reports of functions of the user that failed. @default a warning of the process */
  readonly report?: ErrorReporter | undefined
}
