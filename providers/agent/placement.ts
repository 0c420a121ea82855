/** Which agent is given an instance: a decision over plain facts. */
import type { Capability } from '../../src/core/provider.ts'

/** What an instance takes of a machine. */
export interface AgentResources {
  readonly cpus: number
  readonly memory: number
}

/** What is to be placed. */
export interface PlacementRequest extends AgentResources {
  /** Labels that an agent must have; `*`: with any value. */
  readonly requiredLabels: Readonly<Record<string, string>>
  readonly requiredCapabilities: readonly Capability[]
}

/** An agent as it offers itself, and what of it is taken. */
export interface AgentOffer {
  /** Whether it takes anything now: connected, and not about to leave. */
  readonly isOpen: boolean
  readonly maxInstances: number
  readonly cpus: number
  readonly memory: number
  readonly labels: Readonly<Record<string, string>>
  readonly capabilities: ReadonlySet<string>
  readonly reserved: AgentResources & { readonly instances: number }
  /** How busy the machine says it is, from 0; only who is equal in all else is told apart by it. */
  readonly load: number
}

/** Prefix of the labels of a service that are not for its instances but for who may run them. */
const REQUIRE_PREFIX = 'require.'

export function parseRequiredLabels(
  labels: Readonly<Record<string, string>>,
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(labels)
      .filter(([name]) => name.startsWith(REQUIRE_PREFIX))
      .map(([name, value]) => [name.slice(REQUIRE_PREFIX.length), value]),
  )
}

/** Why an agent could never take it, or `undefined` if it could, were it free. */
export function findMismatch(
  offer: AgentOffer,
  { requiredLabels: required, requiredCapabilities: needs, cpus, memory }: PlacementRequest,
): string | undefined {
  for (const [name, value] of Object.entries(required)) {
    const own = Object.hasOwn(offer.labels, name) ? offer.labels[name] : undefined
    if (own === undefined || (value !== '*' && own !== value)) return `without ${name}=${value}`
  }
  const missing = needs.find((need) => !offer.capabilities.has(need))
  if (missing) return `unable of '${missing}'`
  return cpus > offer.cpus || memory > offer.memory ? 'too small' : undefined
}

export function hasCapacity(
  { isOpen, maxInstances, cpus, memory, reserved: taken }: AgentOffer,
  request: PlacementRequest,
): boolean {
  return (
    isOpen &&
    taken.instances < maxInstances &&
    taken.cpus + request.cpus <= cpus &&
    taken.memory + request.memory <= memory
  )
}

/** The fullest of its three measures, with the wish on it: as in dominant resource fairness (Ghodsi et al. 2011). */
export function computeFullness(
  { maxInstances, cpus, memory, reserved: taken }: AgentOffer,
  request: PlacementRequest,
): number {
  return Math.max(
    (taken.instances + 1) / maxInstances,
    (taken.cpus + request.cpus) / cpus,
    (taken.memory + request.memory) / memory,
  )
}

/** The least full one that has room; of equals the one that is less busy, then the one that came first. */
export function pickAgent<O extends AgentOffer>(
  offers: Iterable<O>,
  request: PlacementRequest,
): O | undefined {
  let best: O | undefined
  let least = Number.POSITIVE_INFINITY
  for (const offer of offers) {
    if (!hasCapacity(offer, request) || findMismatch(offer, request) !== undefined) continue
    const full = computeFullness(offer, request)
    if (full > least || (full === least && best && offer.load >= best.load)) continue
    best = offer
    least = full
  }
  return best
}

/** For people: why nobody takes it now. */
export function explainNoPlacement(
  offers: Iterable<AgentOffer>,
  request: PlacementRequest,
): string {
  const counts = new Map<string, number>()
  for (const offer of offers) {
    const why = findMismatch(offer, request) ?? (offer.isOpen ? 'full' : 'away or about to leave')
    counts.set(why, (counts.get(why) ?? 0) + 1)
  }
  if (counts.size === 0) return 'no agent is connected'
  return [...counts].map(([why, count]) => `${count} ${why}`).join(', ')
}
