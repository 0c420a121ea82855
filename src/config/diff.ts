/** The differences between two configurations. Pure. */
import { isDeepStrictEqual } from 'node:util'
import type { Config } from './config.ts'
import { DEFAULT_TYPE } from './providers.ts'
import type { ServiceConfig } from './services.ts'

export interface ConfigDiff {
  readonly added: readonly ServiceConfig[]
  /** Services as they were. */
  readonly removed: readonly ServiceConfig[]
  /** Services of which only the size is different. */
  readonly resized: readonly ServiceConfig[]
  /** Services that need other instances: another command, concurrency, provider, ... */
  readonly changed: readonly ServiceConfig[]
  /** Services with other options at the gateway. A service may be in `resized` or `changed` as well. */
  readonly rerouted: readonly ServiceConfig[]
  /**
   * Changed keys that take effect at the next start only, such as `session.budget`. Keys of the gateway are not here:
   * `gateway.update` returns them.
   */
  readonly needsRestart: readonly string[]
}

export function diffConfig(old: Config, next: Config): ConfigDiff {
  const before = servicesByUrl(old)
  const after = servicesByUrl(next)
  const kept = next.services.filter(({ url }) => before.has(url))
  const was = ({ url }: ServiceConfig): ServiceConfig => before.get(url) as ServiceConfig
  const changed = kept.filter((service) => !hasSameInstances(old, was(service), next, service))
  return {
    added: next.services.filter(({ url }) => !before.has(url)),
    removed: old.services.filter(({ url }) => !after.has(url)),
    resized: kept.filter((one) => !changed.includes(one) && !hasSameSize(was(one), one)),
    changed,
    rerouted: kept.filter((one) => !isDeepStrictEqual(was(one).gateway, one.gateway)),
    needsRestart: findRestartOnlyChanges(old, next),
  }
}

/** The other keys of the feed are applied at once. */
const FEED_KEYS_FIXED_AT_START = ['listen', 'name', 'http'] as const

function findRestartOnlyChanges(old: Config, next: Config): string[] {
  const { session, admin, log } = old
  const kept: [string, unknown, unknown][] = [
    ['session.tickInterval', session.tickInterval, next.session.tickInterval],
    ['session.budget', session.budget, next.session.budget],
    ...(old.feed && next.feed
      ? FEED_KEYS_FIXED_AT_START.map((key): [string, unknown, unknown] => [
          `feed.${key}`,
          old.feed?.[key],
          next.feed?.[key],
        ])
      : [['feed', old.feed, next.feed] as [string, unknown, unknown]]),
    ['log.format', log.format, next.log.format],
  ]
  if (admin === false || next.admin === false) kept.push(['admin', admin, next.admin])
  else {
    kept.push(['admin.listen', admin.listen, next.admin.listen])
    kept.push(['admin.token', admin.token, next.admin.token])
  }
  return kept.filter(([, was, is]) => !isDeepStrictEqual(was, is)).map(([name]) => name)
}

function servicesByUrl({ services }: Config): Map<string, ServiceConfig> {
  return new Map(services.map((service) => [service.url, service]))
}

function hasSameInstances(
  old: Config,
  before: ServiceConfig,
  next: Config,
  after: ServiceConfig,
): boolean {
  return (
    isDeepStrictEqual(providerOf(old, before), providerOf(next, after)) &&
    isDeepStrictEqual(optionsWithoutSize(before), optionsWithoutSize(after))
  )
}

function hasSameSize(before: ServiceConfig, after: ServiceConfig): boolean {
  const sizes = ({ size, options }: ServiceConfig) => [size, options.initSize]
  return isDeepStrictEqual(sizes(before), sizes(after))
}

function optionsWithoutSize({ options: { initSize: _, ...options } }: ServiceConfig): object {
  return options
}

/** The provider of a service, without its name. */
export function providerOf(
  config: Config,
  { provider = config.session.provider }: ServiceConfig,
): { type: string; options: Readonly<Record<string, unknown>> } {
  const known = provider === undefined ? undefined : config.providers[provider]
  return { type: known?.type ?? DEFAULT_TYPE, options: known?.options ?? {} }
}
