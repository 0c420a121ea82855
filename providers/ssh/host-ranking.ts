/** Which host gets the next instance: the one whose declared capacity is used least. Pure. */
import type { SshTarget } from './options.ts'

export interface SshResources {
  readonly cpus: number
  readonly memory: number
}

export interface SshHostLoad extends SshResources {
  readonly target: SshTarget
  readonly numInstances: number
  /** When it may be tried again after it could not be reached, on the clock of `now()`. */
  readonly pausedUntil: number
}

/** Hosts that have room, best first; those that could not be reached of late come last. */
export function rankHosts(
  loads: readonly SshHostLoad[],
  wanted: SshResources,
  now: number,
): SshHostLoad[] {
  const after = ({ target, cpus, memory }: SshHostLoad): number =>
    Math.max(
      (cpus + wanted.cpus) / target.cpus,
      target.memory ? (memory + wanted.memory) / target.memory : 0,
    )
  const hasRoom = (load: SshHostLoad): boolean =>
    load.numInstances < load.target.limit &&
    (!load.target.memory || load.memory + wanted.memory <= load.target.memory)
  const rests = (load: SshHostLoad): number => (load.pausedUntil > now ? 1 : 0)
  return loads
    .filter(hasRoom)
    .sort((a, b) => rests(a) - rests(b) || after(a) - after(b) || a.numInstances - b.numInstances)
}
