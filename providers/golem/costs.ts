/** What instances cost: what nodes have asked for, and was granted. */
import { Counter, type Registry } from 'prom-client'
import { type Figure, registerFigure } from '../../src/figures.ts'

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
} as const satisfies Record<string, Figure>

/** The cost of one agreement. Bills say what is due in all, not what is new. */
export interface Bill {
  readonly service: string
  granted: number
}

export type Outcome = 'signed' | 'refused' | 'failed' | 'lost' | 'ended'

export interface Facts {
  rented(): number
  avoided(): number
}

export class Costs {
  readonly #budget: number
  #spent = 0
  #isShort = false
  readonly #granted: Counter | undefined
  readonly #refused: Counter | undefined
  readonly #agreements: Counter | undefined

  constructor(budget: number, registry: Registry | undefined, facts: Facts) {
    this.#budget = budget
    if (!registry) return
    const counter = (name: keyof typeof GOLEM_METRICS): Counter => {
      const [, labels, help] = GOLEM_METRICS[name]
      return new Counter({ name, help, labelNames: labels.split(','), registers: [registry] })
    }
    this.#granted = counter('manyhost_golem_cost_glm_total')
    this.#refused = counter('manyhost_golem_cost_refused_glm_total')
    this.#agreements = counter('manyhost_golem_agreements_total')
    const gauge = (name: keyof typeof GOLEM_METRICS, read: () => number): void =>
      registerFigure(registry, name, GOLEM_METRICS[name], (add) => add({}, read()))
    gauge('manyhost_golem_cost_left_glm', () => this.left)
    gauge('manyhost_golem_rented', facts.rented)
    gauge('manyhost_golem_avoided', facts.avoided)
  }

  /** What is left of the budget, in GLM. */
  get left(): number {
    return this.#budget - this.#spent
  }

  /** Whether there was a bill that the budget did not cover, or nothing is left of it. */
  get isSpent(): boolean {
    return this.#isShort || this.left <= 0
  }

  /** False where the budget does not cover it. @param total due for the agreement until now */
  grant(bill: Bill, total: number): boolean {
    const more = Math.max(0, total - bill.granted)
    if (more > this.left) {
      this.#isShort = true
      return false
    }
    bill.granted += more
    this.#spent += more
    this.#granted?.inc({ service: bill.service }, more)
    return true
  }

  refuse(bill: Bill, total: number): void {
    this.#refused?.inc({ service: bill.service }, Math.max(0, total - bill.granted))
  }

  count(service: string, outcome: Outcome): void {
    this.#agreements?.inc({ service, outcome })
  }
}

export interface Price {
  /** In GLM; per second, per second of CPU, and once. */
  readonly envSec: number
  readonly cpuSec: number
  readonly start: number
  readonly threads: number
}

/** Seconds that a node may count more than we do: it began earlier, and rounds up. */
const SLACK = 120

/** The most that a machine can have cost by its own price. */
export function dearest({ envSec, cpuSec, start, threads }: Price, seconds: number): number {
  return start + (seconds + SLACK) * (envSec + cpuSec * threads)
}
