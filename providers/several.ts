/** Runs a service on several providers at once: in order, for example from cheap to expensive, or by weight. */

import { exponentialDelay } from '../src/core/backoff.ts'
import { describe } from '../src/core/describe.ts'
import { asError, ManyhostError } from '../src/core/errors.ts'
import type { AgentEvent } from '../src/core/events.ts'
import { milliseconds, parseOptions, rule } from '../src/core/options.ts'
import type { Capability, Provider, Running, StartSpec } from '../src/core/provider.ts'
import { checkRunning, waitForExit } from '../src/core/provider-checks.ts'
import { after, now } from '../src/core/time.ts'
import { FirstFailureReporter } from '../src/core/user-functions.ts'
import { invalidOption, isRecord } from './shared/option-rules.ts'

export interface SeveralOptions {
  /**
   * The share of the instances that each provider gets, by position: `[3, 1]`.
   * @default the first provider gets as many instances as it can run, then the second one
   */
  readonly weights?: readonly number[]
  /**
   * Milliseconds after which a start that is not done goes to the next provider, for providers where it may wait in a
   * queue. 0: never; only the service's own `startTimeout` counts. @default 0
   */
  readonly spilloverAfter?: number
}

/** A provider that refused a start is tried last for this time, in ms. Each further refusal in a row doubles it. */
const REFUSAL_PAUSE = { min: 1_000, max: 60_000 }

/**
 * Each start goes to the first provider that can run one more instance, or, with `weights`, to the one that has fewest for
 * its weight. If that provider refuses, the start goes to the next one. The capabilities are those that all providers have.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function several(providers: readonly Provider[], options: SeveralOptions = {}): Provider {
  if (!Array.isArray(providers) || providers.length === 0 || !providers.every(isProvider)) {
    throw invalidOption(
      `several: the first argument must be a list of providers, got ${describe(providers)}`,
    )
  }
  const twin = providers.find((provider, index) => providers.indexOf(provider) !== index)
  if (twin) {
    throw invalidOption(
      `several: the provider '${twin.name}' is twice in the list; make a second one, or use weights`,
    )
  }
  const { weights, spilloverAfter } = parseOptions('several', options, {
    weights: rule<readonly number[]>(
      `a list of ${providers.length} numbers above 0`,
      undefined,
      (value) =>
        Array.isArray(value) && value.length === providers.length && value.every((one) => one > 0)
          ? value
          : undefined,
    ),
    spilloverAfter: milliseconds(0, 'never'),
  })
  return new SeveralProvider(providers, weights, spilloverAfter)
}

/** A provider, and its use. */
interface ProviderBranch {
  readonly provider: Provider
  readonly weight: number | undefined
  /** Instances that run or start. */
  numInstances: number
  /** The same, by service. */
  readonly numInstancesByService: Map<string, number>
  /** Refused starts in a row. */
  refusals: number
  pausedUntil: number
  /** Reports failures of the provider's functions, except `start`. */
  readonly failure: FirstFailureReporter
}

class SeveralProvider implements Provider {
  readonly name: string
  readonly capabilities: ReadonlySet<Capability>
  readonly #branches: readonly ProviderBranch[]
  readonly #spilloverAfter: number

  constructor(
    providers: readonly Provider[],
    weights: readonly number[] | undefined,
    spilloverAfter: number,
  ) {
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
        instead: 'it gets no instances',
      }),
    }))
    this.#spilloverAfter = spilloverAfter
  }

  /** The sum of the limits; undefined if a provider has none. */
  get limit(): number | undefined {
    let sum = 0
    for (const branch of this.#branches) sum += limitOf(branch)
    return Number.isFinite(sum) ? sum : undefined
  }

  /** The sum over all providers; a provider that does not say counts with its limit. */
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

  /** Subscribes at each provider. A provider that fails does not keep the others from it. */
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
      // Counted before it has started, so that starts at the same time see it.
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
        branch.pausedUntil = now() + exponentialDelay(branch.refusals++, REFUSAL_PAUSE)
        failures.push(asError(error))
        spec.onOutput(`manyhost: ${branch.provider.name} refused: ${asError(error).message}\n`)
      }
    }
    if (failures.length === 1) throw failures[0]
    const why = failures.map(({ message }) => message).join('; ') || 'each is at its limit'
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
    const ms = this.#spilloverAfter
    if (ms === 0) return provider.start(spec, { signal })
    const late = new AbortController()
    const timer = after(ms, () => {
      const text = `provider ${provider.name} did not start the instance within ${ms} ms (spilloverAfter)`
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

/** The best provider that can run one more instance. A provider that has just refused comes after all others. */
function pickBranch(
  branches: readonly ProviderBranch[],
  service: string,
  at: number,
): ProviderBranch | undefined {
  const share = ({ numInstances, weight }: ProviderBranch): number =>
    weight ? (numInstances + 1) / weight : 0
  const isPaused = ({ pausedUntil }: ProviderBranch): number => (pausedUntil > at ? 1 : 0)
  return branches
    .filter(
      (one) =>
        one.numInstances < limitOf(one) &&
        (one.numInstancesByService.get(service) ?? 0) < availableOf(one, service),
    )
    .sort((a, b) => isPaused(a) - isPaused(b) || share(a) - share(b))[0]
}

/** How many instances of the service the provider could have now, including those that it has. */
function availableOf(branch: ProviderBranch, service: string): number {
  return readNumber(branch, ({ provider }) => provider.available?.(service)) ?? limitOf(branch)
}

function limitOf(branch: ProviderBranch): number {
  return readNumber(branch, ({ provider }) => provider.limit) ?? Number.POSITIVE_INFINITY
}

/** A provider whose function fails here counts as full, so that the others are used. */
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
