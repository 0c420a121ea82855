/** Chooses the host of the next instance: the host whose declared capacity is used least. Pure. */
import type { SshTarget } from './options.ts'

export interface SshResources {
  readonly cpus: number
  readonly memory: number
}

export interface SshHostLoad extends SshResources {
  readonly target: SshTarget
  readonly numInstances: number
  /** The host is tried last until then, because it could not be reached; on the clock of `now()`. */
  readonly pausedUntil: number
}

/** The hosts that can run one more instance, best first. Hosts that could not be reached lately come last. */
export function rankHosts(
  loads: readonly SshHostLoad[],
  wanted: SshResources,
  now: number,
): SshHostLoad[] {
  const usedShare = ({ target, cpus, memory }: SshHostLoad): number =>
    Math.max(
      (cpus + wanted.cpus) / target.cpus,
      target.memory ? (memory + wanted.memory) / target.memory : 0,
    )
  const hasCapacity = (load: SshHostLoad): boolean =>
    load.numInstances < load.target.limit &&
    (!load.target.memory || load.memory + wanted.memory <= load.target.memory)
  const isPaused = (load: SshHostLoad): number => (load.pausedUntil > now ? 1 : 0)
  return loads
    .filter(hasCapacity)
    .sort(
      (a, b) =>
        isPaused(a) - isPaused(b) || usedShare(a) - usedShare(b) || a.numInstances - b.numInstances,
    )
}
