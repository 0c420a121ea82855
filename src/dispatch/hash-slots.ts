/**
 * Which target comes first for a key, remembered. Keys fall into so many slots, and a slot ranks the targets: so that what
 * is remembered is bounded, whatever keys there are, and is found out once a slot and set of targets.
 * Source: the hash slots of Redis Cluster; here they have no owner that is kept anywhere, but rank by rendezvous hashing.
 */
import { hashText, mixBits } from './hash.ts'

/** Of a thousand targets each comes first in 65, give or take 8. */
const HASH_SLOT_COUNT = 65_536
/** Not found out yet. */
const UNKNOWN = -1

export function hashSlotOf(key: string): number {
  return mixBits(hashText(key)) % HASH_SLOT_COUNT
}

/** How much a slot prefers a target: the highest score comes first. */
export function scoreTarget(target: { readonly hash: number }, slot: number): number {
  return mixBits(target.hash ^ slot)
}

export class HashSlots {
  #targets: readonly { readonly hash: number }[] = []
  #firstTargets: Int32Array | undefined
  #isStale = false

  /** Another set of targets: what was remembered is forgotten when it is asked for again. */
  reset(targets: readonly { readonly hash: number }[]): void {
    this.#targets = targets
    this.#isStale = true
  }

  /** Index of the target that comes first in the slot; -1 if there is none. */
  firstTarget(slot: number): number {
    if (!this.#firstTargets || this.#isStale) {
      this.#firstTargets ??= new Int32Array(HASH_SLOT_COUNT)
      this.#firstTargets.fill(UNKNOWN)
      this.#isStale = false
    }
    const known = this.#firstTargets[slot] as number
    if (known !== UNKNOWN) return known
    let best = -1
    let highest = -1
    for (let index = 0; index < this.#targets.length; index++) {
      const score = scoreTarget(this.#targets[index] as { hash: number }, slot)
      if (score > highest) {
        highest = score
        best = index
      }
    }
    this.#firstTargets[slot] = best
    return best
  }
}
