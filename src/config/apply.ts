/** Brings a session from one configuration to the next, without losing a request. */

import { dict } from '../dict.ts'
import { asError, ManyhostError } from '../errors.ts'
import type { ServiceOptions } from '../service.ts'
import type { Session } from '../session.ts'
import type { Config } from './config.ts'
import { diffConfig, providerOf } from './diff.ts'
import type { ServiceConfig } from './services.ts'
import { sizeSpec } from './size.ts'

type Change = 'added' | 'removed' | 'resized' | 'changed'

export interface Applied {
  readonly done: readonly { readonly url: string; readonly change: Change }[]
  readonly failed: readonly {
    readonly url: string
    readonly change: Change
    readonly error: Error
  }[]
  /** What runs now: `next`, but for what failed. It is the `old` of the next time. */
  readonly running: Config
}

/** Options of a service with the provider that its name stands for: what this room cannot know. */
export type ToService = (service: ServiceConfig, config: Config) => ServiceOptions

/** Of a session: the last apply that was asked for. It goes with the session. */
const last = new WeakMap<Session, Promise<Config>>()

/**
 * New services appear, gone ones drain, those of another size are resized, changed ones roll over instance by
 * instance; all at the same time. What fails is in the answer, and the rest is done. `old` is undefined for a session
 * without services. One apply waits for the one before, and then begins from what that one left, whatever `old` is.
 */
export function applyConfig(
  session: Session,
  old: Config | undefined,
  next: Config,
  toService: ToService,
): Promise<Applied> {
  const before = last.get(session)
  const applied = before
    ? before.then((running) => apply(session, running, next, toService))
    : apply(session, old, next, toService)
  const running = applied.then((result) => result.running)
  last.set(session, running)
  // Once nobody waits, the caller knows best what runs.
  const forget = (): void => {
    if (last.get(session) === running) last.delete(session)
  }
  running.then(forget, forget)
  return applied
}

async function apply(
  session: Session,
  old: Config | undefined,
  next: Config,
  toService: ToService,
): Promise<Applied> {
  const before = old ?? { ...next, services: [] }
  const { removed, added, resized, changed } = diffConfig(before, next)
  const options = (service: ServiceConfig) => ({ ...toService(service, next), url: service.url })
  const done: Applied['done'][number][] = []
  const failed: Applied['failed'][number][] = []
  const each = (
    change: Change,
    services: readonly ServiceConfig[],
    act: (service: ServiceConfig) => unknown,
  ): Promise<void>[] =>
    services.map(async ({ url }, index) => {
      try {
        await act(services[index] as ServiceConfig)
        done.push({ url, change })
      } catch (error) {
        failed.push({ url, change, error: asError(error) })
      }
    })
  await Promise.all([
    // Those that go first: what they leave of a budget is free for the others.
    ...each('removed', removed, ({ url }) => remove(session, url)),
    ...each('resized', resized, ({ url, size }) => session.setSize(url, sizeSpec(size))),
    ...each('added', added, (service) => {
      session.startup(options(service))
      if ('balancer' in service.size) session.setSize(service.url, sizeSpec(service.size))
    }),
    ...each('changed', changed, async (service) => {
      const initSize = sizeToKeep(session, service)
      await session.update({ ...options(service), initSize })
      if ('balancer' in service.size) session.setSize(service.url, sizeSpec(service.size))
    }),
  ])
  return { done, failed, running: left(before, next, failed) }
}

/** One that somebody has taken away by hand is gone, too. */
async function remove(session: Session, url: string): Promise<void> {
  try {
    await session.remove(url)
  } catch (error) {
    const isGone = error instanceof ManyhostError && error.code === 'MANYHOST_UNKNOWN_SERVICE'
    if (!isGone) throw error
  }
}

/** A balancer decides by what comes; until its first look, a changed service has as many instances as it had. */
function sizeToKeep(session: Session, { url, size, options }: ServiceConfig): number {
  if ('fixed' in size) return size.fixed
  const { minSize = 0, maxSize = Number.POSITIVE_INFINITY } = options
  const most = Math.min(size.max, maxSize)
  return Math.min(most, Math.max(size.min, minSize, session.cluster(url).size))
}

/**
 * What failed is as it was before; so is its provider, which may be another one by that name now: under a name of its
 * own it differs from the new one, and the next apply tries again.
 */
function left(old: Config, next: Config, failed: Applied['failed']): Config {
  const urls = new Set(failed.map(({ url }) => url))
  const kept = old.services.filter(({ url }) => urls.has(url))
  const providers = dict(next.providers)
  const before = kept.map((service) => {
    const provider = `${service.url} as it was`
    providers[provider] = { name: provider, ...providerOf(old, service) }
    return { ...service, provider }
  })
  const services = [...next.services.filter(({ url }) => !urls.has(url)), ...before]
  return urls.size === 0 ? next : { ...next, services, providers }
}
