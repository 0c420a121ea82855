/** A demand that is published, and the offers to it as they are negotiated. */
import { afterIdly, type Timer } from '../../src/core/time.ts'
import type { Golem } from './client.ts'
import { type Offer, Offers } from './offers.ts'

/** Between a long poll for offers that failed and the next, in ms. */
const PAUSE = 1_000

export interface Draft extends Offer {
  readonly proposal: Golem.OfferProposal
}

interface Subscription {
  unsubscribe(): void
}

export interface DemandOptions {
  readonly specification: Golem.DemandSpecification
  readonly rentHours: number
  /** Whether its price is one that is paid. */
  readonly isCheap: (proposal: Golem.OfferProposal) => boolean
  /** Whether the node may be rented now. */
  readonly isUsable: (node: string) => boolean
  /** It is on the market no more. */
  readonly onEnd: () => void
}

export class Demand {
  readonly offers: Offers<Draft>
  readonly #market: Golem.MarketModule
  readonly #options: DemandOptions
  readonly #published: Subscription
  #polled: Subscription | undefined
  #timer: Timer | undefined
  #isOver = false

  constructor(market: Golem.MarketModule, options: DemandOptions) {
    this.#market = market
    this.#options = options
    this.offers = new Offers(({ node }) => options.isUsable(node))
    // It is published anew from time to time, by golem-js.
    this.#published = market.publishAndRefreshDemand(options.specification).subscribe({
      next: (demand) => this.#poll(demand),
      error: () => {
        this.stop()
        options.onEnd()
      },
    })
  }

  #poll(demand: Golem.Demand): void {
    this.#polled?.unsubscribe()
    this.#timer?.clear()
    if (this.#isOver) return
    this.#polled = this.#market.collectAllOfferProposals(demand).subscribe({
      next: (proposal) => this.#hear(proposal),
      error: () => {
        this.#timer = afterIdly(PAUSE, () => this.#poll(demand))
      },
    })
  }

  #hear(proposal: Golem.OfferProposal): void {
    try {
      this.#judge(proposal)
    } catch {
      // Nodes write what they like into their offers, and golem-js throws when it reads some of it.
    }
  }

  #judge(proposal: Golem.OfferProposal): void {
    const { isCheap, rentHours, specification } = this.#options
    if (!proposal.isValid() || !isCheap(proposal)) return
    if (proposal.isInitial()) {
      this.#market.negotiateProposal(proposal, specification).catch(() => {})
    } else if (proposal.isDraft()) {
      const { id: node } = proposal.provider
      this.offers.add({ node, cost: proposal.getEstimatedCost(rentHours), proposal })
    }
  }

  /** Takes it from the market. */
  stop(): void {
    this.#isOver = true
    this.#timer?.clear()
    this.#polled?.unsubscribe()
    // undefined where it ended while it was being made.
    this.#published?.unsubscribe()
  }
}
