/** The options of a service that concern the data plane. */
import {
  callback,
  milliseconds,
  nested,
  oneOf,
  optional,
  type ParsedOptions,
  rule,
  whole,
} from '../core/options.ts'
import type { ErrorReporter } from '../core/user-functions.ts'
import type { Pick as PickTarget } from './balance.ts'

/** Which requests may be sent a second time after an attempt that may have been executed. */
export type ResendPolicy = 'always' | 'idempotent' | 'never'

const BALANCE_NAMES = ['least-in-flight', 'round-robin', 'peak-ewma'] as const
export type BalanceName = (typeof BALANCE_NAMES)[number]

/** A request, as the option `fairness` sees it. */
export interface FairnessRequest {
  readonly method: string
  readonly path: string
  readonly affinity: string | undefined
  /** Value of a request header: the first one of that name, in any case. */
  header(name: string): string | undefined
}

const hedgeDelayRule = rule<number | 'p95'>(
  "milliseconds above 0, or 'p95'",
  undefined,
  (value) => (value === 'p95' || (typeof value === 'number' && value > 0) ? value : undefined),
  {
    is: 'either',
    forms: [
      { is: 'number', min: 0, exclusiveMin: true, unit: 'ms' },
      { is: 'choice', names: ['p95'] },
    ],
  },
)

/** Every such option with its range and default. */
export const DISPATCH_RULES = {
  /** Milliseconds that a request may wait in the queue, over all attempts. 0: no limit. */
  queueTimeout: milliseconds(0, 'no limit'),
  /** Requests that may wait. A further request fails at once, with MANYHOST_QUEUE_FULL. */
  maxQueue: whole(0, 100_000, { unlimited: true }),
  /** Milliseconds that a request may take, over all attempts. 0: no limit. */
  timeout: milliseconds(0, 'no limit'),
  /** Milliseconds from the start of an attempt to the head of its response. 0: no limit. */
  attemptTimeout: milliseconds(0, 'no limit'),
  /** Which requests may be sent a second time after an attempt that may have been executed. */
  resend: oneOf<ResendPolicy>(['always', 'idempotent', 'never'], 'always'),
  /** Attempts of one request. */
  maxAttempts: whole(1, 5),
  /** Failed attempts in a row after which an instance is ejected. */
  ejectAfter: whole(1, 3),
  /** Bytes of a request body that are kept in memory for another attempt; the rest is kept in a temporary file. */
  replayLimit: whole(0, 1_048_576, { unlimited: true, unit: 'bytes' }),
  /** Bytes of a response of known length that are held until it is complete. A longer one is passed on as it comes. */
  holdLimit: whole(0, 1_048_576, { unit: 'bytes' }),
  /** Sends a second copy of a request that has no response after `after` milliseconds, or after the 95th percentile. */
  hedge: optional(
    nested<{ readonly after: number | 'p95' }>(
      "{ after: milliseconds or 'p95' }",
      { after: hedgeDelayRule },
      ['after'],
    ),
  ),
  /** Which of the instances with a free slot gets the next request: the name of a rule, or a function. */
  balance: rule<BalanceName | PickTarget>(
    "'least-in-flight', 'round-robin', 'peak-ewma' or a function",
    'least-in-flight',
    (value) =>
      typeof value === 'function' || BALANCE_NAMES.includes(value as BalanceName)
        ? (value as BalanceName | PickTarget)
        : undefined,
    { is: 'choice', names: BALANCE_NAMES },
  ),
  /** Names the group of a request; groups take turns. */
  fairness: optional(
    callback<(request: FairnessRequest) => string>('a function from a request to a key'),
  ),
} as const

export interface DispatchSettings extends ParsedOptions<typeof DISPATCH_RULES> {
  /** Virtual URL of the service. */
  readonly service: string
  /** Source of every random choice, in [0, 1). */
  readonly random: () => number
  /** Takes reports of functions of the user that failed. @default a warning of the process */
  readonly report?: ErrorReporter | undefined
}
