/** Replaces instances without a gap: for restarts by hand, and for updates of a service. */
import { ManyhostError } from '../core/errors.ts'
import { until } from '../core/time.ts'
import type { Cluster } from './cluster.ts'
import type { Instance } from './instance.ts'
import { isLive } from './lifecycle.ts'

/**
 * Replaces instances one after the other, each by one that is ready before the old one drains: all of them, or the
 * one with this id. Resolves when the last old one drains.
 * @throws ManyhostError MANYHOST_START_FAILED when a new one is not ready within `startTimeout`; the rest stay
 */
export async function restartInstances(cluster: Cluster, id?: string): Promise<void> {
  const old = cluster.instances.filter(
    (instance) => isLive(instance.state) && (id === undefined || instance.id === id),
  )
  for (const instance of old) {
    if (instance.state === 'ready') await replaceInstance(cluster, instance)
    else cluster.drain(instance.id)
  }
}

/** Raises the size by one until the new instance is ready, then drains the old one and lowers the size in the same turn. */
async function replaceInstance(cluster: Cluster, old: Instance): Promise<void> {
  const before = new Set(cluster.instances.map(({ id }) => id))
  const isNew = ({ id, state }: Instance): boolean => state === 'ready' && !before.has(id)
  const { startTimeout } = cluster.settings
  cluster.extraInstances++
  try {
    if (!(await until(() => cluster.isClosed || cluster.instances.some(isNew), startTimeout))) {
      throw notReadyError(cluster)
    }
    cluster.drain(old.id)
  } finally {
    cluster.extraInstances--
  }
}

export interface RollOverOptions {
  /** The size of the new cluster. */
  readonly size: number
  /** Sends requests to the new cluster from now on. */
  readonly swap: () => void
  /** Called when the new cluster has taken over, and the old one drains. */
  readonly onRolled: () => void
  /** Aborted when a newer change takes the place of this one. Before the swap, nothing has changed. */
  readonly signal: AbortSignal
  /** Whether a size was set meanwhile. Then that size holds, and not `size`. */
  readonly isSizeSet: () => boolean
}

/**
 * Lets `next`, which has size 1 (or 0 if that is all that it is to have), take over from `old`, instance by instance.
 * Resolves when `old` has drained, which takes as long as its requests do.
 * @throws ManyhostError MANYHOST_START_FAILED when nothing of it comes up; the signal's reason when it is aborted before
 * the swap. Then `next` is closed, and `old` is untouched.
 */
export async function rollOver(
  old: Cluster,
  next: Cluster,
  { size, swap, signal, isSizeSet: isSized, onRolled }: RollOverOptions,
): Promise<void> {
  const needsOne = size > 0 && old.size > 0
  const isUp = !needsOne || (await waitUntilClusterReady(next, () => signal.aborted))
  if (!isUp || signal.aborted) {
    const error = signal.aborted ? signal.reason : notReadyError(next)
    await next.close({ force: true })
    throw error
  }
  swap()
  let left = old.size
  const isSettled = (): boolean => signal.aborted || isSized()
  while (next.size < size && left > 1 && !isSettled()) {
    old.setSize(--left)
    next.setSize(next.size + 1)
    await waitUntilClusterReady(next, isSettled)
  }
  if (next.size !== size && !isSized()) next.setSize(size)
  onRolled()
  await old.close()
}

function waitUntilClusterReady(cluster: Cluster, isOver: () => boolean): Promise<boolean> {
  const isReady = (): boolean =>
    cluster.instances.filter(({ state }) => state === 'ready').length >= cluster.size
  return until(() => isOver() || cluster.isClosed || isReady(), cluster.settings.startTimeout)
}

function notReadyError(cluster: Cluster): ManyhostError {
  const { startTimeout } = cluster.settings
  return new ManyhostError(
    'MANYHOST_START_FAILED',
    `${cluster.url}: no new instance was ready within ${startTimeout} ms; ${cluster.describeState()}`,
    { service: cluster.url },
  )
}
