/** A service on several providers at once: from the cheap place to the dear one, or by weight. */
import { asError, ManyhostError } from '../src/core/errors.ts'
import type { AgentEvent } from '../src/core/events.ts'
import { FirstFailure } from '../src/core/guarded.ts'
import type { Capability, Provider, Running, StartSpec } from '../src/core/provider.ts'
import { checkRunning, exitOf } from '../src/core/running.ts'
import { after, now } from '../src/core/time.ts'
import { check, invalid, isRecord, show } from './far/options.ts'

export interface SeveralOptions {
  /**
   * How many instances each gets beside the others, by position: `[3, 1]`. Without it the first one gets all that it
   * has room for, then the second one.
   */
  readonly weights?: readonly number[]
  /**
   * Milliseconds that a start may take before the next provider is tried, for places where it may wait in a queue. 0:
   * as long as the service lets it. @default 0
   */
  readonly patience?: number
}

/** How long a provider that refused comes last: at first, and at most, doubled by each refusal in a row; in ms. */
const REST = 1_000
const LONGEST_REST = 60_000

/**
 * Each start goes to the first provider that has room, or to the one that has least by its weight; where that refuses,
 * to the next one. It can do what all of them can.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function several(providers: readonly Provider[], options: SeveralOptions = {}): Provider {
  if (!Array.isArray(providers) || providers.length === 0 || !providers.every(isProvider)) {
    throw invalid(`several: the first argument is a list of providers, got ${show(providers)}`)
  }
  if (new Set(providers).size < providers.length)
    throw invalid('several: a provider is there twice')
  check<SeveralOptions>('several', options, {
    weights: [
      `a list of ${providers.length} numbers above 0`,
      (value) =>
        Array.isArray(value) && value.length === providers.length && value.every((one) => one > 0),
    ],
    patience: ['milliseconds from 0 up', (value) => Number(value) >= 0 && Number.isFinite(value)],
  })
  return new Several(providers, options)
}

/** A provider, and what is known of it. */
interface Branch {
  readonly provider: Provider
  readonly weight: number | undefined
  /** Instances that run or start. */
  used: number
  /** The same, by service. */
  readonly usedBy: Map<string, number>
  refusals: number
  restsUntil: number
  /** Of what it tells, beside its starts. */
  readonly failure: FirstFailure
}

class Several implements Provider {
  readonly name: string
  readonly capabilities: ReadonlySet<Capability>
  readonly #branches: readonly Branch[]
  readonly #patience: number

  constructor(providers: readonly Provider[], { weights, patience = 0 }: SeveralOptions) {
    this.name = [...new Set(providers.map(({ name }) => name))].join('+')
    const [first, ...others] = providers as [Provider, ...Provider[]]
    this.capabilities = new Set(
      [...first.capabilities].filter((one) => others.every((other) => other.capabilities.has(one))),
    )
    this.#branches = providers.map((provider, index) => ({
      provider,
      weight: weights?.[index],
      used: 0,
      usedBy: new Map(),
      refusals: 0,
      restsUntil: 0,
      failure: new FirstFailure({
        what: `a function of provider ${provider.name}`,
        instead: 'it has no room',
      }),
    }))
    this.#patience = patience
  }

  /** Where each knows its own. */
  get limit(): number | undefined {
    let sum = 0
    for (const branch of this.#branches) sum += limitOf(branch)
    return Number.isFinite(sum) ? sum : undefined
  }

  /** What those that know it could have, and what the others may have at most. */
  available(service: string): number {
    let sum = 0
    for (const branch of this.#branches) sum += roomOf(branch, service)
    return sum
  }

  onAvailable(listener: () => void): () => void {
    return this.#eachEnd((provider) => provider.onAvailable?.(listener))
  }

  onAgent(listener: (event: AgentEvent) => void): () => void {
    return this.#eachEnd((provider) => provider.onAgent?.(listener))
  }

  /** Subscribes at each: one that fails keeps none of the others from telling. */
  #eachEnd(subscribe: (provider: Provider) => (() => void) | undefined): () => void {
    const ends = this.#branches.map(({ provider, failure }) =>
      failure.undoable(() => subscribe(provider)),
    )
    return () => {
      for (const end of ends) end()
    }
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    const tried = new Set<Branch>()
    const failures: Error[] = []
    for (;;) {
      const branch = pick(
        this.#branches.filter((one) => !tried.has(one)),
        spec.service,
        now(),
      )
      if (!branch) break
      tried.add(branch)
      // Counted before it has started: those that start at the same time see it.
      use(branch, spec.service, 1)
      try {
        const given = await this.#try(branch.provider, spec, signal)
        const running = checkRunning(given, branch.provider)
        branch.refusals = 0
        branch.restsUntil = 0
        void exitOf(running).then(() => use(branch, spec.service, -1))
        return running
      } catch (error) {
        use(branch, spec.service, -1)
        if (signal.aborted) throw error
        branch.restsUntil = now() + Math.min(LONGEST_REST, REST * 2 ** branch.refusals++)
        failures.push(asError(error))
        spec.onOutput(`manyhost: ${branch.provider.name} refused: ${asError(error).message}\n`)
      }
    }
    if (failures.length === 1) throw failures[0]
    const why = failures.map(({ message }) => message).join('; ') || 'none has room for it'
    throw new ManyhostError(
      'MANYHOST_START_FAILED',
      `instance ${spec.id} was not started by any of ${this.#branches.length} providers: ${why}`,
      { service: spec.service, cause: failures[0] },
    )
  }

  async #try(provider: Provider, spec: StartSpec, signal: AbortSignal): Promise<Running> {
    if (this.#patience === 0) return provider.start(spec, { signal })
    const late = new AbortController()
    const timer = after(this.#patience, () => {
      const text = `${provider.name} did not start it within ${this.#patience} ms (patience)`
      late.abort(new ManyhostError('MANYHOST_START_FAILED', text))
    })
    try {
      return await provider.start(spec, { signal: AbortSignal.any([signal, late.signal]) })
    } finally {
      timer.clear()
    }
  }

  async close(): Promise<void> {
    const closed = await Promise.allSettled(
      this.#branches.map(async ({ provider }) => provider.close?.()),
    )
    for (const one of closed) if (one.status === 'rejected') throw one.reason
  }
}

/** The best of those that have room; one that has refused of late comes after all that have not. */
function pick(branches: readonly Branch[], service: string, at: number): Branch | undefined {
  const share = ({ used, weight }: Branch): number => (weight ? (used + 1) / weight : 0)
  const rests = ({ restsUntil }: Branch): number => (restsUntil > at ? 1 : 0)
  return branches
    .filter(
      (one) => one.used < limitOf(one) && (one.usedBy.get(service) ?? 0) < roomOf(one, service),
    )
    .sort((a, b) => rests(a) - rests(b) || share(a) - share(b))[0]
}

/** Instances of the service that it could have now, with those that it has. */
function roomOf(branch: Branch, service: string): number {
  return numberOf(branch, ({ provider }) => provider.available?.(service)) ?? limitOf(branch)
}

function limitOf(branch: Branch): number {
  return numberOf(branch, ({ provider }) => provider.limit) ?? Number.POSITIVE_INFINITY
}

/** A provider that fails here has no room, and the others serve on. */
function numberOf(
  branch: Branch,
  read: (branch: Branch) => number | undefined,
): number | undefined {
  try {
    const value = read(branch)
    if (value === undefined || value >= 0) return value
    branch.failure.answered(value, 'a number from 0 up, or undefined')
  } catch (error) {
    branch.failure.threw(error)
  }
  return 0
}

function use(branch: Branch, service: string, more: 1 | -1): void {
  branch.used += more
  const count = (branch.usedBy.get(service) ?? 0) + more
  if (count > 0) branch.usedBy.set(service, count)
  else branch.usedBy.delete(service)
}

function isProvider(value: unknown): value is Provider {
  return isRecord(value) && typeof value.start === 'function' && value.capabilities instanceof Set
}
