/** Providers by the names that files give them. Only the command line knows them all. */
import { resolve } from 'node:path'
import { docker, podman } from '../../../providers/docker/index.ts'
import { DOCKER_RULES } from '../../../providers/docker/options.ts'
import { processes } from '../../../providers/process/index.ts'
import { workers } from '../../../providers/pull/index.ts'
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
  // One port and one store for all services that name it; it opens both when the first of them starts.
  pull: { make: (options) => workers(options), isShared: true },
}

/** What `loadConfig` is to check them by. */
export const PROVIDER_TYPES: ProviderTypes = {
  process: { parse: (options) => TYPES.process?.make(options), needsCommand: true },
  static: { parse: (options) => TYPES.static?.make(options) },
  docker: { rules: DOCKER_RULES, local: false },
  podman: { rules: DOCKER_RULES, local: false },
  pull: { parse: (options) => TYPES.pull?.make(options), local: false },
}

/** Makes the providers of a session, each shared one once. */
export class ProviderShop {
  readonly #made = new Map<string, Provider>()

  /** The one of that name; processes of this machine without a name. */
  named(name: string | undefined, { providers, file }: Config): Provider {
    const { type, options } = (name === undefined ? undefined : providers[name]) ?? DEFAULT
    const { make, isShared } = TYPES[type] as Type
    const located: Record<string, unknown> = { ...options }
    for (const name of ['cwd', 'store']) {
      const path = options[name]
      if (typeof path === 'string') located[name] = resolve(file ?? '.', '..', path)
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
