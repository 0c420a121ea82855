/** Providers by the names that files give them. Only the command line knows them all. */
import { resolve } from 'node:path'
import { agents } from '../../../providers/agent/index.ts'
import { AGENTS_RULES } from '../../../providers/agent/options.ts'
import { docker, podman } from '../../../providers/docker/index.ts'
import { DOCKER_RULES } from '../../../providers/docker/options.ts'
import { processes } from '../../../providers/process/index.ts'
import { fixed } from '../../../providers/static.ts'
import type { Config } from '../../config/config.ts'
import type { ProviderTypes } from '../../config/providers.ts'
import type { ServiceConfig } from '../../config/services.ts'
import type { Provider } from '../../provider.ts'
import type { ServiceOptions } from '../../service.ts'

type Options = Readonly<Record<string, unknown>>

interface Type {
  readonly make: (options: Options) => Provider
  /** Whether services share one, as they share the ports of a machine; addresses are handed out to one service. */
  readonly isShared: boolean
}

/** By `type`, as a file says it. */
const TYPES: Readonly<Record<string, Type>> = {
  process: { make: (options) => processes(options), isShared: true },
  static: {
    make: (options) => fixed(options as unknown as Parameters<typeof fixed>[0]),
    isShared: false,
  },
  docker: { make: (options) => docker(options), isShared: true },
  podman: { make: (options) => podman(options), isShared: true },
  agent: { make: listening, isShared: true },
}

/** What `loadConfig` is to check them by. */
export const PROVIDER_TYPES: ProviderTypes = {
  process: { parse: (options) => TYPES.process?.make(options), needsCommand: true },
  static: { parse: (options) => TYPES.static?.make(options) },
  docker: { rules: DOCKER_RULES, local: false },
  podman: { rules: DOCKER_RULES, local: false },
  agent: { rules: AGENTS_RULES, local: false },
}

/** Options that are paths: relative to the file that says them. */
const PATHS = ['cwd', 'keyFile', 'certFile', 'certKeyFile']

/** Agents are to find it before the first start needs them; what keeps it from listening, each start says. */
function listening(options: Options): Provider {
  const hub = agents(options)
  hub.address().catch(() => {})
  return hub
}

/** Makes the providers of a session, each shared one once. */
export class ProviderShop {
  readonly #made = new Map<string, Provider>()

  /** The one of that name; processes of this machine without a name. */
  named(name: string | undefined, { providers, file }: Config): Provider {
    const { type, options } = (name === undefined ? undefined : providers[name]) ?? DEFAULT
    const { make, isShared } = TYPES[type] as Type
    const paths = PATHS.filter((option) => typeof options[option] === 'string')
    const located = {
      ...options,
      ...Object.fromEntries(
        paths.map((option) => [option, resolve(file ?? '.', '..', String(options[option]))]),
      ),
    }
    if (!isShared) return make(located)
    const key = JSON.stringify([type, located])
    const known = this.#made.get(key)
    if (known) return known
    const made = make(located)
    this.#made.set(key, made)
    return made
  }

  /** Options of `session.startup` for a service of a file. */
  readonly toService = ({ options, provider }: ServiceConfig, config: Config): ServiceOptions => ({
    ...options,
    provider: this.named(provider ?? config.session.provider, config),
  })
}

const DEFAULT: { readonly type: string; readonly options: Options } = {
  type: 'process',
  options: {},
}
