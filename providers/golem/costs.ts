/** What instances cost: what nodes have asked for, and was granted. */
import type { Registry } from 'prom-client'
import {
  type AddToSeries,
  type MetricDefinition,
  registerMetricSources,
} from '../../src/core/prometheus.ts'

/** Name, kind, labels and meaning of each. docs/golem.md's table is held against this one by a test. */
export const GOLEM_METRICS = {
  manyhost_golem_cost_glm_total: ['counter', 'service', 'What was granted to nodes, in GLM'],
  manyhost_golem_cost_refused_glm_total: [
    'counter',
    'service',
    'What nodes asked for beyond their price, or beyond the budget, in GLM',
  ],
  manyhost_golem_cost_left_glm: ['gauge', '', 'What is left of the budget, in GLM'],
  manyhost_golem_agreements_total: [
    'counter',
    'service,outcome',
    'Agreements: signed, refused (by a node), failed (its machine did not start), lost, ended',
  ],
  manyhost_golem_rented: ['gauge', '', 'Machines that are rented'],
  manyhost_golem_avoided: ['gauge', '', 'Nodes that are avoided because they have failed'],
} as const satisfies Record<string, MetricDefinition>

/** The cost of one agreement. Bills say what is due in all, not what is new. */
export interface GolemBill {
  readonly service: string
  granted: number
}

export type GolemAgreementOutcome = 'signed' | 'refused' | 'failed' | 'lost' | 'ended'

export interface GolemMarketCounts {
  numRented(): number
  numAvoided(): number
}

export class GolemCosts {
  readonly #budget: number
  #spent = 0
  #wasRefused = false
  /** By service, in GLM. */
  readonly #granted = new Map<string, number>()
  readonly #refused = new Map<string, number>()
  /** By service and outcome. */
  readonly #agreements = new Map<string, Map<GolemAgreementOutcome, number>>()
  /** Takes the metrics out of their registry. Idempotent. */
  readonly close: () => void

  constructor(budget: number, registry: Registry | undefined, facts: GolemMarketCounts) {
    this.#budget = budget
    const ofServices = (sums: ReadonlyMap<string, number>) => (add: AddToSeries) => {
      for (const [service, sum] of sums) add({ service }, sum)
    }
    const reads: Record<keyof typeof GOLEM_METRICS, (add: AddToSeries) => void> = {
      manyhost_golem_cost_glm_total: ofServices(this.#granted),
      manyhost_golem_cost_refused_glm_total: ofServices(this.#refused),
      manyhost_golem_cost_left_glm: (add) => add({}, this.remaining),
      manyhost_golem_agreements_total: (add) => {
        for (const [service, outcomes] of this.#agreements) {
          for (const [outcome, count] of outcomes) add({ service, outcome }, count)
        }
      },
      manyhost_golem_rented: (add) => add({}, facts.numRented()),
      manyhost_golem_avoided: (add) => add({}, facts.numAvoided()),
    }
    const sources = Object.entries(GOLEM_METRICS).map(([name, definition]) => ({
      name,
      definition,
      read: reads[name as keyof typeof GOLEM_METRICS],
    }))
    this.close = registry ? registerMetricSources(registry, 'provider', sources) : () => undefined
  }

  /** What is left of the budget, in GLM. */
  get remaining(): number {
    return this.#budget - this.#spent
  }

  /** Whether there was a bill that the budget did not cover, or nothing is left of it. */
  get isSpent(): boolean {
    return this.#wasRefused || this.remaining <= 0
  }

  /** False where the budget does not cover it. @param total due for the agreement until now */
  grant(bill: GolemBill, total: number): boolean {
    const more = Math.max(0, total - bill.granted)
    if (more > this.remaining) {
      this.#wasRefused = true
      return false
    }
    bill.granted += more
    this.#spent += more
    addTo(this.#granted, bill.service, more)
    return true
  }

  refuse(bill: GolemBill, total: number): void {
    addTo(this.#refused, bill.service, Math.max(0, total - bill.granted))
  }

  countAgreement(service: string, outcome: GolemAgreementOutcome): void {
    const outcomes = this.#agreements.get(service) ?? new Map<GolemAgreementOutcome, number>()
    this.#agreements.set(service, outcomes)
    addTo(outcomes, outcome, 1)
  }
}

function addTo<K>(sums: Map<K, number>, key: K, more: number): void {
  sums.set(key, (sums.get(key) ?? 0) + more)
}

export interface GolemPrice {
  /** In GLM; per second, per second of CPU, and once. */
  readonly envSec: number
  readonly cpuSec: number
  readonly start: number
  readonly threads: number
}

/** Seconds that a node may count more than we do: it began earlier, and rounds up. */
const BILLING_SLACK_SECONDS = 120

/** The most that a machine can have cost by its own price. */
export function maxCost({ envSec, cpuSec, start, threads }: GolemPrice, seconds: number): number {
  return start + (seconds + BILLING_SLACK_SECONDS) * (envSec + cpuSec * threads)
}
