/** Which host gets the next instance: the one whose declared capacity is used least. Pure. */
import type { Target } from './options.ts'

export interface Share {
  readonly cpus: number
  readonly memory: number
}

export interface Load extends Share {
  readonly target: Target
  readonly instances: number
  /** When it may be tried again after it could not be reached, on the clock of `now()`. */
  readonly restsUntil: number
}

/** Hosts that have room, best first; those that could not be reached of late come last. */
export function rank(loads: readonly Load[], wanted: Share, now: number): Load[] {
  const after = ({ target, cpus, memory }: Load): number =>
    Math.max(
      (cpus + wanted.cpus) / target.cpus,
      target.memory ? (memory + wanted.memory) / target.memory : 0,
    )
  const hasRoom = (load: Load): boolean =>
    load.instances < load.target.limit &&
    (!load.target.memory || load.memory + wanted.memory <= load.target.memory)
  const rests = (load: Load): number => (load.restsUntil > now ? 1 : 0)
  return loads
    .filter(hasRoom)
    .sort((a, b) => rests(a) - rests(b) || after(a) - after(b) || a.instances - b.instances)
}
