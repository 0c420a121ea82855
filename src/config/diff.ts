/** What changed from one configuration to the next. Pure. */
import { isDeepStrictEqual } from 'node:util'
import type { Config } from './config.ts'
import { DEFAULT_TYPE } from './providers.ts'
import type { ServiceConfig } from './services.ts'

export interface ConfigDiff {
  readonly added: readonly ServiceConfig[]
  /** As they were. */
  readonly removed: readonly ServiceConfig[]
  /** Only their size is another. */
  readonly resized: readonly ServiceConfig[]
  /** Their instances are others: another command, concurrency, provider, ... */
  readonly changed: readonly ServiceConfig[]
  /** Only the gateway is to treat them in another way; may also be among those that are resized or changed. */
  readonly rerouted: readonly ServiceConfig[]
  /** Sections that changed and take effect at the next start only. */
  readonly sections: readonly ('session' | 'gateway' | 'admin' | 'feed' | 'log')[]
}

const SECTIONS = ['session', 'gateway', 'admin', 'feed', 'log'] as const

export function diffConfig(old: Config, next: Config): ConfigDiff {
  const before = byUrl(old)
  const after = byUrl(next)
  const kept = next.services.filter(({ url }) => before.has(url))
  const was = ({ url }: ServiceConfig): ServiceConfig => before.get(url) as ServiceConfig
  const changed = kept.filter((service) => !sameInstances(old, was(service), next, service))
  return {
    added: next.services.filter(({ url }) => !before.has(url)),
    removed: old.services.filter(({ url }) => !after.has(url)),
    resized: kept.filter((one) => !changed.includes(one) && !sameSize(was(one), one)),
    changed,
    rerouted: kept.filter((one) => !isDeepStrictEqual(was(one).gateway, one.gateway)),
    sections: SECTIONS.filter((name) => !isDeepStrictEqual(old[name], next[name])),
  }
}

function byUrl({ services }: Config): Map<string, ServiceConfig> {
  return new Map(services.map((service) => [service.url, service]))
}

function sameInstances(
  old: Config,
  before: ServiceConfig,
  next: Config,
  after: ServiceConfig,
): boolean {
  return (
    isDeepStrictEqual(providerOf(old, before), providerOf(next, after)) &&
    isDeepStrictEqual(unsized(before), unsized(after))
  )
}

function sameSize(before: ServiceConfig, after: ServiceConfig): boolean {
  const sizes = ({ size, options }: ServiceConfig) => [size, options.initSize]
  return isDeepStrictEqual(sizes(before), sizes(after))
}

function unsized({ options: { initSize: _, ...options } }: ServiceConfig): object {
  return options
}

/** What a service runs on, whatever it is called. */
export function providerOf(
  config: Config,
  { provider = config.session.provider }: ServiceConfig,
): { type: string; options: Readonly<Record<string, unknown>> } {
  const known = provider === undefined ? undefined : config.providers[provider]
  return { type: known?.type ?? DEFAULT_TYPE, options: known?.options ?? {} }
}
