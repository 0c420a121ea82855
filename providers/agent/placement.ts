/** Which agent is given an instance: a decision over plain facts. */
import type { Capability } from '../../src/core/provider.ts'

/** What an instance takes of a machine. */
export interface Share {
  readonly cpus: number
  readonly memory: number
}

/** What is to be placed. */
export interface Wish extends Share {
  /** Labels that an agent must have; `*`: with any value. */
  readonly required: Readonly<Record<string, string>>
  readonly needs: readonly Capability[]
}

/** An agent as it offers itself, and what of it is taken. */
export interface Offer {
  /** Whether it takes anything now: connected, and not about to leave. */
  readonly isOpen: boolean
  readonly places: number
  readonly cpus: number
  readonly memory: number
  readonly labels: Readonly<Record<string, string>>
  readonly capabilities: ReadonlySet<string>
  readonly taken: Share & { readonly places: number }
  /** How busy the machine says it is, from 0; only who is equal in all else is told apart by it. */
  readonly load: number
}

/** Prefix of the labels of a service that are not for its instances but for who may run them. */
const REQUIRE = 'require.'

export function requiredBy(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(labels)
      .filter(([name]) => name.startsWith(REQUIRE))
      .map(([name, value]) => [name.slice(REQUIRE.length), value]),
  )
}

/** Why an agent could never take it, or `undefined` if it could, were it free. */
export function unfit(offer: Offer, { required, needs, cpus, memory }: Wish): string | undefined {
  for (const [name, value] of Object.entries(required)) {
    const own = Object.hasOwn(offer.labels, name) ? offer.labels[name] : undefined
    if (own === undefined || (value !== '*' && own !== value)) return `without ${name}=${value}`
  }
  const missing = needs.find((need) => !offer.capabilities.has(need))
  if (missing) return `unable of '${missing}'`
  return cpus > offer.cpus || memory > offer.memory ? 'too small' : undefined
}

export function hasRoom({ isOpen, places, cpus, memory, taken }: Offer, wish: Wish): boolean {
  return (
    isOpen &&
    taken.places < places &&
    taken.cpus + wish.cpus <= cpus &&
    taken.memory + wish.memory <= memory
  )
}

/** The fullest of its three measures, with the wish on it: as in dominant resource fairness (Ghodsi et al. 2011). */
export function fullness({ places, cpus, memory, taken }: Offer, wish: Wish): number {
  return Math.max(
    (taken.places + 1) / places,
    (taken.cpus + wish.cpus) / cpus,
    (taken.memory + wish.memory) / memory,
  )
}

/** The least full one that has room; of equals the one that is less busy, then the one that came first. */
export function pick<O extends Offer>(offers: Iterable<O>, wish: Wish): O | undefined {
  let best: O | undefined
  let least = Number.POSITIVE_INFINITY
  for (const offer of offers) {
    if (!hasRoom(offer, wish) || unfit(offer, wish) !== undefined) continue
    const full = fullness(offer, wish)
    if (full > least || (full === least && best && offer.load >= best.load)) continue
    best = offer
    least = full
  }
  return best
}

/** For people: why nobody takes it now. */
export function explain(offers: Iterable<Offer>, wish: Wish): string {
  const counts = new Map<string, number>()
  for (const offer of offers) {
    const why = unfit(offer, wish) ?? (offer.isOpen ? 'full' : 'away or about to leave')
    counts.set(why, (counts.get(why) ?? 0) + 1)
  }
  if (counts.size === 0) return 'no agent is connected'
  return [...counts].map(([why, count]) => `${count} ${why}`).join(', ')
}
