/** Changes a session from one configuration to the next, without losing a request. */
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
  /** The configuration that runs now: the newest one, except for what failed. Pass it as `old` the next time. */
  readonly running: Config
  /** Resolves when replaced and removed instances have completed their requests. No caller has to wait for it. */
  readonly drained: Promise<void>
}

/** Returns the options of a service with its provider. Given by the caller, because this folder knows no providers. */
export type ToServiceOptions = (service: ServiceConfig, config: Config) => ServiceOptions

/** The state that running applies of one session share. */
interface ApplyState {
  /** The configuration that runs if all of them succeed. */
  config: Config
  /** By virtual URL: the change that was begun last. The outcome of an older change is ignored. */
  readonly latestChanges: Map<string, object>
  /** Number of applies that are not in effect yet. */
  activeCount: number
}

/** By session. */
const activeApplies = new WeakMap<SessionCore, ApplyState>()

/**
 * Starts new services, drains removed ones, resizes those with another size, and rolls the others over instance by instance,
 * all at the same time. A change that fails is in the result; the other changes are made.
 *
 * Resolves when all changes are in effect. Replaced instances drain after that, see `drained`.
 *
 * An apply does not wait for earlier ones. If some are still running, it starts from the configuration that they lead to,
 * whatever `old` is, and its changes replace theirs.
 * @param old the configuration that runs; undefined for a session without services
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
    // When no apply is running, `old` of the caller is right again.
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
    // Removed services first: they release a part of the budget for the others.
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
      // A failure is reported by `rolled`.
      draining.push(update.done.catch(() => undefined))
      await update.rolled
      // A newer apply has changed the service again, or has removed it.
      if (applying.latestChanges.get(service.url) !== own) return
      if ('balancer' in service.size) session.setSize(service.url, toSizeSpec(service.size))
    }),
  ])
  const drained = Promise.allSettled(draining).then(() => undefined)
  return { succeeded: done, failed, running: applying.config, drained }
}

/** A service that was removed by other code is removed as well. */
async function removeIfPresent(session: SessionCore, url: string): Promise<void> {
  try {
    await session.remove(url)
  } catch (error) {
    const isGone = error instanceof ManyhostError && error.code === 'MANYHOST_UNKNOWN_SERVICE'
    if (!isGone) throw error
  }
}

/** A changed service keeps its number of instances until its load balancer decides for the first time. */
function chooseInitialSize(session: SessionCore, { url, size, options }: ServiceConfig): number {
  if ('fixed' in size) return size.fixed
  const { minSize = 0, maxSize = Number.POSITIVE_INFINITY } = options
  const max = Math.min(size.max, maxSize)
  return Math.min(max, Math.max(size.min, minSize, session.cluster(url).size))
}

/**
 * The service stays as it was before the failed change, and so does its provider. The name of that provider may stand for
 * another one now, so the old one gets a name of its own. It differs from the new one, so the next apply tries again.
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
