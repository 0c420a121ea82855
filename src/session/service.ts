/** The options of a service: what `session.startup` takes, and the settings of the two planes that are made of it. */
import { readProviderLimit } from '../cluster/provider-calls.ts'
import { CLUSTER_RULES, type ClusterSettings } from '../cluster/settings.ts'
import { DEFAULT_HEADER_SIZE } from '../core/connector.ts'
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import {
  nested,
  type OptionsOf,
  omitUndefined,
  optional,
  type ParsedOptions,
  parseOptions,
  pickOptions,
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
import { DISPATCH_RULES } from '../dispatch/settings.ts'

function positive(range: string, unit?: 'bytes') {
  return rule(range, undefined, parsePositive, {
    is: 'number',
    min: 0,
    exclusiveMin: true,
    ...(unit && { unit }),
  })
}

/** The options that a provider gets: what one instance is. */
const START_RULES = {
  /** Starts one instance. It gets `HOST` and `PORT`, or `SOCKET_PATH`, in its environment. */
  command: optional(
    rule<readonly string[]>(
      'a non-empty array of strings',
      undefined,
      (value) =>
        Array.isArray(value) && value.length > 0 && value.every((part) => typeof part === 'string')
          ? [...value]
          : undefined,
      { is: 'list', of: text('a string'), minItems: 1 },
    ),
  ),
  /** The image of a container, for providers that have images. */
  image: optional(text('a name of an image', (value) => value !== '')),
  /** Whether an instance listens at a TCP port or at a unix socket. @default the provider's own */
  listen: optional(
    rule<'tcp' | 'unix'>(
      "'tcp', 'unix'",
      undefined,
      (value) => (value === 'tcp' || value === 'unix' ? value : undefined),
      { is: 'choice', names: ['tcp', 'unix'] },
    ),
  ),
  /** Variables of the environment of each instance. */
  env: record(),
  /** The folder in which an instance starts. */
  cwd: optional(text('a path', (value) => value !== '')),
  /** Labels for providers that have labels, such as those of containers. */
  labels: record(),
  /** Processors, and bytes of memory, that an instance may use. */
  resources: optional(
    nested<{ readonly cpus?: number; readonly memory?: number }>('{ cpus, memory }', {
      cpus: positive('a number above 0'),
      memory: positive('bytes above 0', 'bytes'),
    }),
  ),
  /**
   * Bytes of the head of an instance's response: names and values of its fields. A larger head is refused, with
   * MANYHOST_BAD_RESPONSE.
   */
  headerSize: whole(1, DEFAULT_HEADER_SIZE, { unit: 'bytes' }),
} as const

/** Every option with its range and default. README's table is held against this one by a test. */
export const SERVICE_RULES = {
  /** Virtual URL: scheme and host, optionally port and path prefix. */
  url: rule<string | URL>('an absolute URL such as http://calc', undefined, (value) =>
    typeof value === 'string' || value instanceof URL ? value : undefined,
  ),
  ...START_RULES,
  /** Where the instances run. @default the provider of the session */
  provider: optional(
    rule<Provider>('a provider', undefined, (value) => (isProvider(value) ? value : undefined)),
  ),
  /** Instances at first. @default 1, or all that the provider has where it knows how many */
  initSize: whole(0, 1),
  ...CLUSTER_RULES,
  ...DISPATCH_RULES,
} as const

/** Options of `session.startup`; README has the table. Times in milliseconds, sizes in bytes. */
export interface ServiceOptions extends OptionsOf<typeof SERVICE_RULES> {
  /** Virtual URL: scheme and host, optionally port and path prefix. */
  readonly url: string | URL
}

function parsePositive(value: unknown): number | undefined {
  return typeof value === 'number' && value > 0 && Number.isFinite(value) ? value : undefined
}

export interface Service {
  readonly url: VirtualUrl
  readonly initSize: number
  readonly settings: ClusterSettings
}

/** What a session gives to each of its services. */
export interface ServiceDefaults {
  readonly provider: Provider
  readonly tickInterval: number
  readonly random: () => number
  readonly report?: ErrorReporter
}

type ParsedService = ParsedOptions<typeof SERVICE_RULES>

/**
 * Checks the options of a service and makes its settings.
 * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_INVALID_URL, MANYHOST_UNSUPPORTED
 */
export function parseService(
  given: ServiceOptions,
  startup: Startup | undefined,
  defaults: ServiceDefaults,
): Service {
  const options = parseOptions('startup', given, SERVICE_RULES)
  if (options.url === undefined) throw invalid('url is missing')
  const url = parseVirtualUrl(options.url)
  const provider = options.provider ?? defaults.provider
  if (options.health && !options.health.path) throw invalid('health.path is missing')
  if (options.hedge && options.hedge.after === undefined) throw invalid('hedge.after is missing')
  const { initSize, maxSize } = parseSizes(given, options, provider)
  checkStartup(options, startup)
  checkCapabilities(url, provider, {
    command: options.command !== undefined,
    function: startup !== undefined,
    image: options.image !== undefined,
    'unix-socket': options.listen === 'unix',
    resources: options.resources !== undefined,
  })
  const { random, report, tickInterval } = defaults
  const settings: ClusterSettings = {
    ...pickOptions(options, CLUSTER_RULES),
    url: url.href,
    provider,
    spec: {
      ...omitUndefined(pickOptions(options, START_RULES)),
      service: url.href,
      concurrency: options.concurrency,
      ...(startup && {
        startup: (context, listenOn) => startup(createSafeContext(context), listenOn),
      }),
    },
    dispatch: { ...pickOptions(options, DISPATCH_RULES), service: url.href, random, report },
    maxSize,
    tickInterval,
    random,
    report,
  }
  return { url, initSize, settings }
}

/** Sizes are held below what the provider has, where it knows that. */
function parseSizes(
  given: ServiceOptions,
  options: ParsedService,
  provider: Provider,
): { initSize: number; maxSize: number } {
  const limit = readProviderLimit(provider)
  const isLimited = limit !== undefined && limit < options.maxSize
  const maxSize = isLimited ? limit : options.maxSize
  const bound = isLimited ? `the ${limit} that ${provider.name} has` : `maxSize ${maxSize}`
  if (options.minSize > maxSize) {
    throw invalid(`minSize ${options.minSize} is above ${bound}`)
  }
  if (given.initSize !== undefined && options.initSize > maxSize) {
    throw invalid(`initSize ${options.initSize} is above ${bound}`)
  }
  const initSize = given.initSize ?? Math.min(maxSize, limit ?? options.initSize)
  return { initSize, maxSize }
}

function checkStartup({ command }: ParsedService, startup: unknown): void {
  if (startup === undefined) return
  if (typeof startup !== 'function') {
    throw invalid(
      `the second argument must be a function (ctx, listenOn), got ${describe(startup)}`,
    )
  }
  if (command) throw invalid('command and a startup function exclude each other; give one of them')
}

/** Refuses what the provider cannot do now, and not when the first request waits. */
function checkCapabilities(
  url: VirtualUrl,
  provider: Provider,
  asked: Readonly<Record<Capability, boolean>>,
): void {
  for (const [capability, wanted] of Object.entries(asked)) {
    if (wanted && !provider.capabilities.has(capability as Capability)) {
      throw new ManyhostError(
        'MANYHOST_UNSUPPORTED',
        `startup: ${url.href}: provider ${provider.name} does not support '${capability}'; it supports ${[...provider.capabilities].join(', ') || 'no capability'}`,
        { service: url.href },
      )
    }
  }
  const startsSomething = asked.command || asked.function || asked.image
  const canStart = provider.capabilities.has('command') || provider.capabilities.has('function')
  if (canStart && !startsSomething) {
    throw invalid(`${url.href}: nothing would be started; give a command or a startup function`)
  }
}

function invalid(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `startup: ${message}`)
}
