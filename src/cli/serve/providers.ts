/** Providers by the names that files give them. Only the command line knows them all. */
import { resolve } from 'node:path'
import type { Logger } from 'pino'
import type { Registry } from 'prom-client'
import { agents } from '../../../providers/agent/index.ts'
import { AGENTS_RULES } from '../../../providers/agent/options.ts'
import { docker, podman } from '../../../providers/docker/index.ts'
import { DOCKER_RULES } from '../../../providers/docker/options.ts'
import { golem } from '../../../providers/golem/index.ts'
import { GOLEM_RULES } from '../../../providers/golem/options.ts'
import { kubernetes } from '../../../providers/kubernetes/index.ts'
import { KUBERNETES_RULES } from '../../../providers/kubernetes/options.ts'
import { processes } from '../../../providers/process/index.ts'
import { workers } from '../../../providers/pull/index.ts'
import { several } from '../../../providers/several.ts'
import { slurm } from '../../../providers/slurm/index.ts'
import { ssh } from '../../../providers/ssh/index.ts'
import { fixed } from '../../../providers/static.ts'
import type { Config } from '../../config/config.ts'
import { type ProviderTypes, SEVERAL_TYPE } from '../../config/providers.ts'
import type { ServiceConfig } from '../../config/services.ts'
import { describeError } from '../../core/errors.ts'
import type { Provider } from '../../core/provider.ts'
import type { ServiceOptions } from '../../session/service.ts'

type Options = Readonly<Record<string, unknown>>

interface ProviderMaker {
  readonly make: (options: Options, logger?: Logger) => Provider
  /** Whether services share one, as they share the ports of a machine; addresses are handed out to one service. */
  readonly isShared: boolean
  /** Whether it has metrics of its own, for the registry that it is given. */
  readonly hasMetrics?: boolean
}

/** By `type`, as a file says it. */
const PROVIDER_MAKERS: Readonly<Record<string, ProviderMaker>> = {
  process: { make: (options) => processes(options), isShared: true },
  static: {
    make: (options) => fixed(options as unknown as Parameters<typeof fixed>[0]),
    isShared: false,
  },
  slurm: { make: (options) => slurm(options), isShared: true },
  ssh: {
    make: (options) => ssh(options as unknown as Parameters<typeof ssh>[0]),
    isShared: true,
  },
  docker: { make: (options) => docker(options), isShared: true },
  podman: { make: (options) => podman(options), isShared: true },
  // One budget and one private network for all services that name it.
  golem: {
    make: (options) => golem(options as unknown as Parameters<typeof golem>[0]),
    isShared: true,
    hasMetrics: true,
  },
  kubernetes: { make: (options) => kubernetes(options), isShared: true },
  // One port and one store for all services that name it; it opens both when the first of them starts.
  pull: { make: (options) => workers(options), isShared: true, hasMetrics: true },
  agent: { make: createAgentsProvider, isShared: true, hasMetrics: true },
}

/** What `loadConfig` is to check them by. */
export const PROVIDER_TYPES: ProviderTypes = {
  process: { parse: (options) => PROVIDER_MAKERS.process?.make(options), needsCommand: true },
  static: { parse: (options) => PROVIDER_MAKERS.static?.make(options) },
  slurm: {
    parse: (options) => PROVIDER_MAKERS.slurm?.make(options),
    needsCommand: true,
    local: false,
  },
  ssh: { parse: (options) => PROVIDER_MAKERS.ssh?.make(options), needsCommand: true, local: false },
  docker: { rules: DOCKER_RULES, local: false },
  podman: { rules: DOCKER_RULES, local: false },
  golem: { rules: GOLEM_RULES, required: ['budget'], local: false },
  kubernetes: { rules: KUBERNETES_RULES, local: false },
  pull: { parse: (options) => PROVIDER_MAKERS.pull?.make(options), local: false },
  agent: { rules: AGENTS_RULES, local: false },
}

/** Options that are paths of this machine: relative to the file that says them. */
const PATH_OPTIONS = ['store', 'appKeyFile', 'keyFile', 'certFile', 'certKeyFile']

/** Agents are to find it before the first start needs them; what keeps it from listening, each start says as well. */
function createAgentsProvider(options: Options, logger?: Logger): Provider {
  const hub = agents(options)
  hub.on('agent', ({ agent, change, reason }) => {
    const level = change === 'evicted' ? 'warn' : 'info'
    logger?.[level]({ agent, change, ...(reason && { reason }) }, `agent ${agent}: ${change}`)
  })
  hub.on('refused', (error) => logger?.warn(`an agent was refused: ${describeError(error)}`))
  hub.address().then(
    (address) => logger?.info({ agents: address }, `agents dial ${address}`),
    (error) => logger?.error(`agents cannot dial: ${describeError(error)}`),
  )
  return hub
}

/** Makes the providers of a session, each shared one once. */
export class ConfiguredProviders {
  readonly #sharedProviders = new Map<string, Provider>()
  readonly #registry: Registry | undefined
  readonly #logger: Logger | undefined

  /** @param registry where providers that count do so; @param logger for what they tell by themselves */
  constructor(registry?: Registry, logger?: Logger) {
    this.#registry = registry
    this.#logger = logger
  }

  /** The one of that name; processes of this machine without a name. */
  findOrCreate(name: string | undefined, { providers, file }: Config): Provider {
    return this.#create(
      (name === undefined ? undefined : providers[name]) ?? DEFAULT_PROVIDER,
      file,
    )
  }

  #create({ type, options }: ProviderDescription, file: string | undefined): Provider {
    if (type === SEVERAL_TYPE) {
      const { of, ...how } = options as { of: readonly ProviderDescription[] }
      return several(
        of.map((one) => this.#create(one, file)),
        how,
      )
    }
    const { make, isShared, hasMetrics: isCounted } = PROVIDER_MAKERS[type] as ProviderMaker
    const located: Record<string, unknown> = { ...options }
    // A working directory elsewhere is no folder of this machine.
    const isHere = PROVIDER_TYPES[type]?.local !== false
    for (const name of isHere ? ['cwd', ...PATH_OPTIONS] : PATH_OPTIONS) {
      const path = options[name]
      if (typeof path === 'string') located[name] = resolve(file ?? '.', '..', path)
    }
    if (!isShared) return make(located)
    const key = JSON.stringify([type, located])
    const known = this.#sharedProviders.get(key)
    if (known) return known
    const counts = isCounted && this.#registry
    const made = make(counts ? { ...located, registry: this.#registry } : located, this.#logger)
    this.#sharedProviders.set(key, made)
    return made
  }

  /** Options of `session.startup` for a service of a file. */
  readonly toServiceOptions = (
    { options, provider }: ServiceConfig,
    config: Config,
  ): ServiceOptions => ({
    ...options,
    provider: this.findOrCreate(provider ?? config.session.provider, config),
  })
}

type ProviderDescription = { readonly type: string; readonly options: Options }

const DEFAULT_PROVIDER: ProviderDescription = {
  type: 'process',
  options: {},
}
