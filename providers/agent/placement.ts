/** Chooses the agent for an instance. Pure. */
import type { Capability } from '../../src/core/provider.ts'

/** What an instance takes of an agent's machine. */
export interface AgentResources {
  readonly cpus: number
  /** Bytes. */
  readonly memory: number
}

/** What an instance needs. */
export interface PlacementRequest extends AgentResources {
  /** Labels that the agent must have. The value `*` accepts any value. */
  readonly requiredLabels: Readonly<Record<string, string>>
  readonly requiredCapabilities: readonly Capability[]
}

/** What an agent offers, and what of that is reserved. */
export interface AgentOffer {
  /** Whether the agent takes new instances: it is connected, and does not leave. */
  readonly isOpen: boolean
  readonly maxInstances: number
  readonly cpus: number
  readonly memory: number
  readonly labels: Readonly<Record<string, string>>
  readonly capabilities: ReadonlySet<string>
  readonly reserved: AgentResources & { readonly instances: number }
  /** How busy the machine says that it is, from 0. It decides only between agents that are equally full. */
  readonly load: number
}

/** Prefix of the labels of a service that say which agents may run its instances. */
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

/** Why the agent could never run the instance, even if it were empty; undefined if it could. */
export function findMismatch(
  offer: AgentOffer,
  { requiredLabels, requiredCapabilities, cpus, memory }: PlacementRequest,
): string | undefined {
  for (const [name, value] of Object.entries(requiredLabels)) {
    const offered = Object.hasOwn(offer.labels, name) ? offer.labels[name] : undefined
    if (offered === undefined || (value !== '*' && offered !== value)) {
      return `without ${name}=${value}`
    }
  }
  const missing = requiredCapabilities.find((needed) => !offer.capabilities.has(needed))
  if (missing) return `without the capability '${missing}'`
  return cpus > offer.cpus || memory > offer.memory ? 'too small' : undefined
}

export function hasCapacity(
  { isOpen, maxInstances, cpus, memory, reserved }: AgentOffer,
  request: PlacementRequest,
): boolean {
  return (
    isOpen &&
    reserved.instances < maxInstances &&
    reserved.cpus + request.cpus <= cpus &&
    reserved.memory + request.memory <= memory
  )
}

/**
 * The largest of the three shares of the agent (instances, processors, memory) that would be reserved with the instance on
 * it, as in dominant resource fairness (Ghodsi et al. 2011).
 */
export function computeFullness(
  { maxInstances, cpus, memory, reserved }: AgentOffer,
  request: PlacementRequest,
): number {
  return Math.max(
    (reserved.instances + 1) / maxInstances,
    (reserved.cpus + request.cpus) / cpus,
    (reserved.memory + request.memory) / memory,
  )
}

/** The least full agent with free capacity. Among equally full ones: the less busy one, then the first one. */
export function pickAgent<O extends AgentOffer>(
  offers: Iterable<O>,
  request: PlacementRequest,
): O | undefined {
  let best: O | undefined
  let minFullness = Number.POSITIVE_INFINITY
  for (const offer of offers) {
    if (!hasCapacity(offer, request) || findMismatch(offer, request) !== undefined) continue
    const fullness = computeFullness(offer, request)
    if (fullness > minFullness) continue
    if (fullness === minFullness && best && offer.load >= best.load) continue
    best = offer
    minFullness = fullness
  }
  return best
}

/** Says, for people, why no agent takes the instance now. */
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
