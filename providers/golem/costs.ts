/** The costs of instances: what nodes have asked for, and what was granted. */
import type { Registry } from 'prom-client'
import {
  type AddToSeries,
  type MetricDefinition,
  registerMetricSources,
} from '../../src/core/prometheus.ts'

/** Name, kind, labels and meaning of each metric. A test compares the table in docs/golem.md with this one. */
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

/** The amount that was granted for one agreement. Each bill says the sum that is due, not only what is new. */
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
  /** Removes the metrics from their registry. Idempotent. */
  readonly close: () => void

  constructor(budget: number, registry: Registry | undefined, counts: GolemMarketCounts) {
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
      manyhost_golem_rented: (add) => add({}, counts.numRented()),
      manyhost_golem_avoided: (add) => add({}, counts.numAvoided()),
    }
    const sources = Object.entries(GOLEM_METRICS).map(([name, definition]) => ({
      name,
      definition,
      read: reads[name as keyof typeof GOLEM_METRICS],
    }))
    this.close = registry ? registerMetricSources(registry, 'provider', sources) : () => undefined
  }

  /** The rest of the budget, in GLM. */
  get remaining(): number {
    return this.#budget - this.#spent
  }

  /** Whether nothing is left of the budget, or a bill was refused because too little was left. */
  get isSpent(): boolean {
    return this.#wasRefused || this.remaining <= 0
  }

  /** False if the budget does not cover the bill. @param total the amount due for the agreement until now, in GLM */
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

/** A node may count this many seconds more than we do: it starts earlier, and rounds up. */
const BILLING_SLACK_SECONDS = 120

/** The highest cost of a machine after this time, by the price of its own offer, in GLM. */
export function maxCost({ envSec, cpuSec, start, threads }: GolemPrice, seconds: number): number {
  return start + (seconds + BILLING_SLACK_SECONDS) * (envSec + cpuSec * threads)
}
