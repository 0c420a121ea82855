/** The options of a service: what `startup` takes, with defaults and ranges, made into settings for the two planes. */
import { readProviderLimit } from '../cluster/provider-calls.ts'
import type { ClusterSettings, HealthSettings, OnStop } from '../cluster/settings.ts'
import { DEFAULT_HEADER_SIZE } from '../core/connector.ts'
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import {
  callback,
  milliseconds,
  nested,
  oneOf,
  parseOptions,
  record,
  rule,
  text,
  whole,
} from '../core/options.ts'
import type { Capability, Provider, Startup } from '../core/provider.ts'
import { isProvider } from '../core/provider-checks.ts'
import { parseVirtualUrl, type VirtualUrl } from '../core/registry.ts'
import { createSafeContext } from '../core/startup-context.ts'
import type { ErrorReporter } from '../core/user-functions.ts'
import type { Pick as PickTarget } from '../dispatch/balance.ts'
import type { BalanceName, FairnessRequest, ResendPolicy } from '../dispatch/settings.ts'
import { isPath } from '../dispatch/validate-request.ts'

/** Options of `session.startup`; README has the table. Times in milliseconds, sizes in bytes. */
export interface ServiceOptions {
  /** Virtual URL: scheme and host, optionally port and path prefix. */
  readonly url: string | URL
  /** Starts one instance; it gets `HOST` and `PORT`, or `SOCKET_PATH`, in its environment. */
  readonly command?: readonly string[]
  readonly image?: string
  readonly provider?: Provider
  readonly initSize?: number
  readonly minSize?: number
  readonly maxSize?: number
  readonly concurrency?: number
  readonly maxStarting?: number
  readonly ready?: string
  readonly health?: { path: string; interval?: number; threshold?: number }
  readonly startTimeout?: number
  readonly drainTimeout?: number
  readonly stopGrace?: number
  readonly slowStart?: number
  readonly queueTimeout?: number
  readonly maxQueue?: number
  readonly timeout?: number
  readonly attemptTimeout?: number
  readonly resend?: ResendPolicy
  readonly maxAttempts?: number
  readonly ejectAfter?: number
  readonly replayLimit?: number
  readonly holdLimit?: number
  /**
   * Bytes of the head of an instance's answer, names and values of its fields. A larger one is refused with
   * MANYHOST_BAD_RESPONSE. A whole number from 1 up.
   * @default 65536
   */
  readonly headerSize?: number
  readonly hedge?: { after: number | 'p95' }
  readonly balance?: BalanceName | PickTarget
  readonly fairness?: (request: FairnessRequest) => string
  readonly onStop?: OnStop
  readonly listen?: 'tcp' | 'unix'
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly resources?: { cpus?: number; memory?: number }
}

/** Sent as it is: what undici would refuse, each probe of an instance would fail by. */
const pathRule = text(
  "a path that begins with '/', as in a request",
  (value) => value.startsWith('/') && isPath(value, 'GET'),
)

/** Every option with its range and default. README's table is held against this one by a test. */
export const SERVICE_RULES = {
  url: rule<string | URL>('an absolute URL such as http://calc', undefined, (value) =>
    typeof value === 'string' || value instanceof URL ? value : undefined,
  ),
  command: rule<readonly string[]>(
    'a non-empty array of strings',
    undefined,
    (value) =>
      Array.isArray(value) && value.length > 0 && value.every((part) => typeof part === 'string')
        ? [...value]
        : undefined,
    { is: 'list', of: text('a string'), minItems: 1 },
  ),
  image: text('a name of an image', (value) => value !== ''),
  provider: rule<Provider>('a provider', undefined, (value) =>
    isProvider(value) ? value : undefined,
  ),
  initSize: whole(0, 1),
  minSize: whole(0, 0),
  maxSize: whole(0, Number.POSITIVE_INFINITY),
  concurrency: whole(1, 1),
  maxStarting: whole(1, 32),
  ready: pathRule,
  health: nested<HealthSettings>(
    '{ path, interval, threshold }',
    { path: pathRule, interval: milliseconds(5_000), threshold: whole(1, 3) },
    ['path'],
  ),
  startTimeout: milliseconds(60_000),
  drainTimeout: milliseconds(30_000, 'requests are taken away at once'),
  stopGrace: milliseconds(5_000, 'stopped by force'),
  slowStart: milliseconds(0, 'all slots at once'),
  queueTimeout: milliseconds(0, 'no limit'),
  maxQueue: whole(0, 100_000, { unlimited: true }),
  timeout: milliseconds(0, 'no limit'),
  attemptTimeout: milliseconds(0, 'no limit'),
  resend: oneOf<ResendPolicy>(['always', 'idempotent', 'never'], 'always'),
  maxAttempts: whole(1, 5),
  ejectAfter: whole(1, 3),
  replayLimit: whole(0, 1_048_576, { unlimited: true, unit: 'bytes' }),
  holdLimit: whole(0, 1_048_576, { unit: 'bytes' }),
  headerSize: whole(1, DEFAULT_HEADER_SIZE, { unit: 'bytes' }),
  hedge: nested<{ after: number | 'p95' }>(
    "{ after: milliseconds or 'p95' }",
    {
      after: rule<number | 'p95'>(
        "milliseconds above 0, or 'p95'",
        undefined,
        (value) =>
          value === 'p95' || (typeof value === 'number' && value > 0) ? value : undefined,
        {
          is: 'either',
          forms: [
            { is: 'number', min: 0, exclusiveMin: true, unit: 'ms' },
            { is: 'choice', names: ['p95'] },
          ],
        },
      ),
    },
    ['after'],
  ),
  balance: rule<BalanceName | PickTarget>(
    "'least-in-flight', 'round-robin', 'peak-ewma' or a function",
    'least-in-flight',
    (value) =>
      typeof value === 'function' ||
      value === 'least-in-flight' ||
      value === 'round-robin' ||
      value === 'peak-ewma'
        ? (value as BalanceName | PickTarget)
        : undefined,
    { is: 'choice', names: ['least-in-flight', 'round-robin', 'peak-ewma'] },
  ),
  fairness: callback<(request: FairnessRequest) => string>('a function from a request to a key'),
  onStop: oneOf<OnStop>(['restart', 'raise', 'ignore'], 'restart'),
  listen: rule<'tcp' | 'unix'>(
    "'tcp', 'unix'",
    undefined,
    (value) => (value === 'tcp' || value === 'unix' ? value : undefined),
    { is: 'choice', names: ['tcp', 'unix'] },
  ),
  env: record(),
  cwd: text('a path', (value) => value !== ''),
  labels: record(),
  resources: nested<{ cpus?: number; memory?: number }>('{ cpus, memory }', {
    cpus: rule('a number above 0', undefined, parsePositive, {
      is: 'number',
      min: 0,
      exclusiveMin: true,
    }),
    memory: rule('bytes above 0', undefined, parsePositive, {
      is: 'number',
      min: 0,
      exclusiveMin: true,
      unit: 'bytes',
    }),
  }),
} as const

function parsePositive(value: unknown): number | undefined {
  return typeof value === 'number' && value > 0 && Number.isFinite(value) ? value : undefined
}

export interface Service {
  readonly url: VirtualUrl
  readonly initSize: number
  readonly settings: ClusterSettings
}

/**
 * Checks the options of a service and makes its settings.
 * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_INVALID_URL, MANYHOST_UNSUPPORTED
 */
export function parseService(
  given: ServiceOptions,
  startup: Startup | undefined,
  defaults: {
    provider: Provider
    tickInterval: number
    random: () => number
    report?: ErrorReporter
  },
): Service {
  const options = parseOptions('startup', given, SERVICE_RULES)
  if (options.url === undefined) throw invalid('url is missing')
  const url = parseVirtualUrl(options.url)
  const provider = options.provider ?? defaults.provider
  if (options.health && !options.health.path) throw invalid('health.path is missing')
  if (options.hedge && options.hedge.after === undefined) throw invalid('hedge.after is missing')
  const known = readProviderLimit(provider)
  const limit = known ?? Number.POSITIVE_INFINITY
  const maxSize = Math.min(options.maxSize, limit)
  const bound =
    limit < options.maxSize ? `the ${limit} that ${provider.name} has` : `maxSize ${maxSize}`
  if (options.minSize > maxSize) {
    throw invalid(`minSize ${options.minSize} is above ${bound}`)
  }
  if (given.initSize !== undefined && options.initSize > maxSize) {
    throw invalid(`initSize ${options.initSize} is above ${bound}`)
  }
  const initSize = given.initSize ?? Math.min(maxSize, known ?? options.initSize)
  if (startup !== undefined && typeof startup !== 'function') {
    throw invalid(`the second argument is a function (ctx, listenOn), got ${describe(startup)}`)
  }
  if (startup && options.command) throw invalid('command and a startup function exclude each other')
  checkCapabilities(url, provider, {
    command: options.command !== undefined,
    function: startup !== undefined,
    image: options.image !== undefined,
    'unix-socket': options.listen === 'unix',
    resources: options.resources !== undefined,
  })
  const settings: ClusterSettings = {
    url: url.href,
    provider,
    spec: {
      service: url.href,
      env: options.env,
      labels: options.labels,
      concurrency: options.concurrency,
      headerSize: options.headerSize,
      ...(options.command && { command: options.command }),
      ...(startup && {
        startup: (context, listenOn) => startup(createSafeContext(context), listenOn),
      }),
      ...(options.image && { image: options.image }),
      ...(options.cwd && { cwd: options.cwd }),
      ...(options.resources && { resources: options.resources }),
      ...(options.listen && { listen: options.listen }),
    },
    dispatch: {
      service: url.href,
      maxQueue: options.maxQueue,
      queueTimeout: options.queueTimeout,
      timeout: options.timeout,
      attemptTimeout: options.attemptTimeout,
      resend: options.resend,
      maxAttempts: options.maxAttempts,
      replayLimit: options.replayLimit,
      holdLimit: options.holdLimit,
      hedge: options.hedge,
      balance: options.balance,
      fairness: options.fairness,
      ejectAfter: options.ejectAfter,
      random: defaults.random,
      report: defaults.report,
    },
    minSize: options.minSize,
    maxSize,
    concurrency: options.concurrency,
    maxStarting: options.maxStarting,
    ready: options.ready,
    health: options.health,
    startTimeout: options.startTimeout,
    drainTimeout: options.drainTimeout,
    stopGrace: options.stopGrace,
    slowStart: options.slowStart,
    onStop: options.onStop,
    tickInterval: defaults.tickInterval,
    random: defaults.random,
    report: defaults.report,
  }
  return { url, initSize, settings }
}

/** What a startup asks for and the provider cannot do is refused here, not when the first request waits. */
function checkCapabilities(
  url: VirtualUrl,
  provider: Provider,
  asked: Readonly<Record<Capability, boolean>>,
): void {
  for (const [capability, wanted] of Object.entries(asked)) {
    if (wanted && !provider.capabilities.has(capability as Capability)) {
      throw new ManyhostError(
        'MANYHOST_UNSUPPORTED',
        `startup: ${url.href}: provider ${provider.name} does not do '${capability}'; it does ${[...provider.capabilities].join(', ') || 'nothing of the kind'}`,
        { service: url.href },
      )
    }
  }
  const startsSomething = asked.command || asked.function || asked.image
  const canStart = provider.capabilities.has('command') || provider.capabilities.has('function')
  if (canStart && !startsSomething) {
    throw invalid(`${url.href}: give a command or a startup function: nothing would be started`)
  }
}

function invalid(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `startup: ${message}`)
}
