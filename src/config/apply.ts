/** Brings a session from one configuration to the next, without losing a request. */

import { asError, ManyhostError } from '../core/errors.ts'
import { createDict } from '../core/null-prototype.ts'
import type { ServiceOptions } from '../session/service.ts'
import type { SessionCore } from '../session/session.ts'
import type { Config } from './config.ts'
import { diffConfig, providerOf } from './diff.ts'
import type { ServiceConfig } from './services.ts'
import { toSizeSpec } from './size.ts'

type ServiceChange = 'added' | 'removed' | 'resized' | 'changed'

export interface ApplyResult {
  readonly succeeded: readonly { readonly url: string; readonly change: ServiceChange }[]
  readonly failed: readonly {
    readonly url: string
    readonly change: ServiceChange
    readonly error: Error
  }[]
  /** What runs now: the newest configuration, but for what failed. It is the `old` of the next time. */
  readonly running: Config
  /** Resolves when what gave way has ended what it still served. Nothing need wait for that. */
  readonly drained: Promise<void>
}

/** Options of a service with the provider that its name stands for: what this room cannot know. */
export type ToServiceOptions = (service: ServiceConfig, config: Config) => ServiceOptions

/** What applies that are under way have in common. */
interface ApplyState {
  /** What runs when all of them have succeeded. */
  config: Config
  /** By virtual URL: the change that was begun last. What an older one becomes concerns nobody any more. */
  readonly latestChanges: Map<string, object>
  /** Applies that are not in effect yet. */
  activeCount: number
}

/** Of a session; it goes with the session. */
const activeApplies = new WeakMap<SessionCore, ApplyState>()

/**
 * New services appear, gone ones drain, those of another size are resized, changed ones roll over instance by
 * instance; all at the same time. What fails is in the answer, and the rest is done. `old` is undefined for a session
 * without services.
 *
 * Resolves when all is in effect; what gave way drains beside that, see `drained`. An apply waits for no other one: it
 * begins from what those before it aim at, whatever `old` is, and takes the place of changes that it changes again.
 */
export async function applyConfig(
  session: SessionCore,
  old: Config | undefined,
  next: Config,
  toService: ToServiceOptions,
): Promise<ApplyResult> {
  const applying = activeApplies.get(session) ?? {
    config: old ?? { ...next, services: [] },
    latestChanges: new Map(),
    activeCount: 0,
  }
  activeApplies.set(session, applying)
  applying.activeCount++
  try {
    return await applyChanges(session, applying, next, toService)
  } finally {
    // Once none is under way, the caller knows best what runs.
    if (--applying.activeCount === 0) activeApplies.delete(session)
  }
}

async function applyChanges(
  session: SessionCore,
  applying: ApplyState,
  next: Config,
  toService: ToServiceOptions,
): Promise<ApplyResult> {
  const before = applying.config
  const { removed, added, resized, changed } = diffConfig(before, next)
  applying.config = next
  const options = (service: ServiceConfig) => ({ ...toService(service, next), url: service.url })
  const done: ApplyResult['succeeded'][number][] = []
  const failed: ApplyResult['failed'][number][] = []
  const draining: Promise<unknown>[] = []
  const each = (
    change: ServiceChange,
    services: readonly ServiceConfig[],
    act: (service: ServiceConfig, own: object) => unknown,
  ): Promise<void>[] =>
    services.map(async (service) => {
      const { url } = service
      const own = {}
      applying.latestChanges.set(url, own)
      try {
        await act(service, own)
        done.push({ url, change })
      } catch (error) {
        if (applying.latestChanges.get(url) !== own) return
        failed.push({ url, change, error: asError(error) })
        applying.config = revertService(before, applying.config, url)
      }
    })
  await Promise.all([
    // Those that go first: what they leave of a budget is free for the others.
    ...each('removed', removed, ({ url }) =>
      draining.push(removeIfPresent(session, url).catch(() => undefined)),
    ),
    ...each('resized', resized, ({ url, size }) => session.setSize(url, toSizeSpec(size))),
    ...each('added', added, (service) => {
      session.startup(options(service))
      if ('balancer' in service.size) session.setSize(service.url, toSizeSpec(service.size))
    }),
    ...each('changed', changed, async (service, own) => {
      const initSize = chooseInitialSize(session, service)
      const update = session.beginUpdate({ ...options(service), initSize })
      // `rolled` tells what became of it.
      draining.push(update.done.catch(() => undefined))
      await update.rolled
      // A newer apply has changed it again, or has taken it away.
      if (applying.latestChanges.get(service.url) !== own) return
      if ('balancer' in service.size) session.setSize(service.url, toSizeSpec(service.size))
    }),
  ])
  const drained = Promise.allSettled(draining).then(() => undefined)
  return { succeeded: done, failed, running: applying.config, drained }
}

/** One that somebody has taken away by hand is gone, too. */
async function removeIfPresent(session: SessionCore, url: string): Promise<void> {
  try {
    await session.remove(url)
  } catch (error) {
    const isGone = error instanceof ManyhostError && error.code === 'MANYHOST_UNKNOWN_SERVICE'
    if (!isGone) throw error
  }
}

/** A balancer decides by what comes; until its first look, a changed service has as many instances as it had. */
function chooseInitialSize(session: SessionCore, { url, size, options }: ServiceConfig): number {
  if ('fixed' in size) return size.fixed
  const { minSize = 0, maxSize = Number.POSITIVE_INFINITY } = options
  const most = Math.min(size.max, maxSize)
  return Math.min(most, Math.max(size.min, minSize, session.cluster(url).size))
}

/**
 * What failed is as it was before; so is its provider, which may be another one by that name now: under a name of its
 * own it differs from the new one, and the next apply tries again.
 */
function revertService(old: Config, now: Config, url: string): Config {
  const services = now.services.filter((service) => service.url !== url)
  const kept = old.services.find((service) => service.url === url)
  if (!kept) return { ...now, services }
  const provider = `${url} as it was`
  const providers = createDict(now.providers)
  providers[provider] = { name: provider, ...providerOf(old, kept) }
  return { ...now, services: [...services, { ...kept, provider }], providers }
}
