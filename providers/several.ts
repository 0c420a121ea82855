/** A service on several providers at once: from the cheap place to the dear one, or by weight. */

import { asError, ManyhostError } from '../src/core/errors.ts'
import type { AgentEvent } from '../src/core/events.ts'
import type { Capability, Provider, Running, StartSpec } from '../src/core/provider.ts'
import { checkRunning, waitForExit } from '../src/core/provider-checks.ts'
import { after, now } from '../src/core/time.ts'
import { FirstFailureReporter } from '../src/core/user-functions.ts'
import { checkOptions, formatValue, invalidOption, isRecord } from './shared/option-checks.ts'

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
const MIN_REFUSAL_PAUSE = 1_000
const MAX_REFUSAL_PAUSE = 60_000

/**
 * Each start goes to the first provider that has room, or to the one that has least by its weight; where that refuses,
 * to the next one. It can do what all of them can.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function several(providers: readonly Provider[], options: SeveralOptions = {}): Provider {
  if (!Array.isArray(providers) || providers.length === 0 || !providers.every(isProvider)) {
    throw invalidOption(
      `several: the first argument is a list of providers, got ${formatValue(providers)}`,
    )
  }
  if (new Set(providers).size < providers.length)
    throw invalidOption('several: a provider is there twice')
  checkOptions<SeveralOptions>('several', options, {
    weights: [
      `a list of ${providers.length} numbers above 0`,
      (value) =>
        Array.isArray(value) && value.length === providers.length && value.every((one) => one > 0),
    ],
    patience: ['milliseconds from 0 up', (value) => Number(value) >= 0 && Number.isFinite(value)],
  })
  return new SeveralProvider(providers, options)
}

/** A provider, and what is known of it. */
interface ProviderBranch {
  readonly provider: Provider
  readonly weight: number | undefined
  /** Instances that run or start. */
  numInstances: number
  /** The same, by service. */
  readonly numInstancesByService: Map<string, number>
  refusals: number
  pausedUntil: number
  /** Of what it tells, beside its starts. */
  readonly failure: FirstFailureReporter
}

class SeveralProvider implements Provider {
  readonly name: string
  readonly capabilities: ReadonlySet<Capability>
  readonly #branches: readonly ProviderBranch[]
  readonly #startTimeoutMs: number

  constructor(providers: readonly Provider[], { weights, patience = 0 }: SeveralOptions) {
    this.name = [...new Set(providers.map(({ name }) => name))].join('+')
    const [first, ...others] = providers as [Provider, ...Provider[]]
    this.capabilities = new Set(
      [...first.capabilities].filter((one) => others.every((other) => other.capabilities.has(one))),
    )
    this.#branches = providers.map((provider, index) => ({
      provider,
      weight: weights?.[index],
      numInstances: 0,
      numInstancesByService: new Map(),
      refusals: 0,
      pausedUntil: 0,
      failure: new FirstFailureReporter({
        what: `a function of provider ${provider.name}`,
        instead: 'it has no room',
      }),
    }))
    this.#startTimeoutMs = patience
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
    for (const branch of this.#branches) sum += availableOf(branch, service)
    return sum
  }

  onAvailable(listener: () => void): () => void {
    return this.#subscribeToAll((provider) => provider.onAvailable?.(listener))
  }

  onAgent(listener: (event: AgentEvent) => void): () => void {
    return this.#subscribeToAll((provider) => provider.onAgent?.(listener))
  }

  /** Subscribes at each: one that fails keeps none of the others from telling. */
  #subscribeToAll(subscribe: (provider: Provider) => (() => void) | undefined): () => void {
    const ends = this.#branches.map(({ provider, failure }) =>
      failure.runUndoable(() => subscribe(provider)),
    )
    return () => {
      for (const end of ends) end()
    }
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    const tried = new Set<ProviderBranch>()
    const failures: Error[] = []
    for (;;) {
      const branch = pickBranch(
        this.#branches.filter((one) => !tried.has(one)),
        spec.service,
        now(),
      )
      if (!branch) break
      tried.add(branch)
      // Counted before it has started: those that start at the same time see it.
      countInstance(branch, spec.service, 1)
      try {
        const given = await this.#startWithTimeout(branch.provider, spec, signal)
        const running = checkRunning(given, branch.provider)
        branch.refusals = 0
        branch.pausedUntil = 0
        void waitForExit(running).then(() => countInstance(branch, spec.service, -1))
        return running
      } catch (error) {
        countInstance(branch, spec.service, -1)
        if (signal.aborted) throw error
        branch.pausedUntil =
          now() + Math.min(MAX_REFUSAL_PAUSE, MIN_REFUSAL_PAUSE * 2 ** branch.refusals++)
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

  async #startWithTimeout(
    provider: Provider,
    spec: StartSpec,
    signal: AbortSignal,
  ): Promise<Running> {
    if (this.#startTimeoutMs === 0) return provider.start(spec, { signal })
    const late = new AbortController()
    const timer = after(this.#startTimeoutMs, () => {
      const text = `${provider.name} did not start it within ${this.#startTimeoutMs} ms (patience)`
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
function pickBranch(
  branches: readonly ProviderBranch[],
  service: string,
  at: number,
): ProviderBranch | undefined {
  const share = ({ numInstances: used, weight }: ProviderBranch): number =>
    weight ? (used + 1) / weight : 0
  const rests = ({ pausedUntil: restsUntil }: ProviderBranch): number => (restsUntil > at ? 1 : 0)
  return branches
    .filter(
      (one) =>
        one.numInstances < limitOf(one) &&
        (one.numInstancesByService.get(service) ?? 0) < availableOf(one, service),
    )
    .sort((a, b) => rests(a) - rests(b) || share(a) - share(b))[0]
}

/** Instances of the service that it could have now, with those that it has. */
function availableOf(branch: ProviderBranch, service: string): number {
  return readNumber(branch, ({ provider }) => provider.available?.(service)) ?? limitOf(branch)
}

function limitOf(branch: ProviderBranch): number {
  return readNumber(branch, ({ provider }) => provider.limit) ?? Number.POSITIVE_INFINITY
}

/** A provider that fails here has no room, and the others serve on. */
function readNumber(
  branch: ProviderBranch,
  read: (branch: ProviderBranch) => number | undefined,
): number | undefined {
  try {
    const value = read(branch)
    if (value === undefined || value >= 0) return value
    branch.failure.reportAnswer(value, 'a number from 0 up, or undefined')
  } catch (error) {
    branch.failure.reportThrown(error)
  }
  return 0
}

function countInstance(branch: ProviderBranch, service: string, change: 1 | -1): void {
  branch.numInstances += change
  const count = (branch.numInstancesByService.get(service) ?? 0) + change
  if (count > 0) branch.numInstancesByService.set(service, count)
  else branch.numInstancesByService.delete(service)
}

function isProvider(value: unknown): value is Provider {
  return isRecord(value) && typeof value.start === 'function' && value.capabilities instanceof Set
}
