/** A published demand, and the negotiation of the offers to it. */
import { afterUnref, type Timer } from '../../src/core/time.ts'
import { type GolemOffer, GolemOfferQueue } from './offer-queue.ts'
import type { Golem } from './packages.ts'

/** The pause after a long poll for offers that failed, in ms. */
const POLL_RETRY_PAUSE = 1_000

export interface GolemDraftOffer extends GolemOffer {
  readonly proposal: Golem.OfferProposal
}

interface OfferSubscription {
  unsubscribe(): void
}

export interface GolemDemandOptions {
  readonly specification: Golem.DemandSpecification
  readonly rentHours: number
  /** Whether the price of the proposal is within `maxPrices`. */
  readonly isAffordable: (proposal: Golem.OfferProposal) => boolean
  /** Whether the node may be rented now. */
  readonly isUsable: (node: string) => boolean
  /** Called when the demand is no longer on the market. */
  readonly onEnd: () => void
}

export class GolemDemand {
  readonly offers: GolemOfferQueue<GolemDraftOffer>
  readonly #market: Golem.MarketModule
  readonly #options: GolemDemandOptions
  readonly #published: OfferSubscription
  #polling: OfferSubscription | undefined
  #timer: Timer | undefined
  #isOver = false

  constructor(market: Golem.MarketModule, options: GolemDemandOptions) {
    this.#market = market
    this.#options = options
    this.offers = new GolemOfferQueue(({ node }) => options.isUsable(node))
    // golem-js publishes the demand again from time to time.
    this.#published = market.publishAndRefreshDemand(options.specification).subscribe({
      next: (demand) => this.#poll(demand),
      error: () => {
        this.stop()
        options.onEnd()
      },
    })
  }

  #poll(demand: Golem.Demand): void {
    this.#polling?.unsubscribe()
    this.#timer?.clear()
    if (this.#isOver) return
    this.#polling = this.#market.collectAllOfferProposals(demand).subscribe({
      next: (proposal) => this.#receiveProposal(proposal),
      error: () => {
        this.#timer = afterUnref(POLL_RETRY_PAUSE, () => this.#poll(demand))
      },
    })
  }

  #receiveProposal(proposal: Golem.OfferProposal): void {
    try {
      this.#handleProposal(proposal)
    } catch {
      // A node may write anything into its offer, and golem-js throws when it reads some of that.
    }
  }

  #handleProposal(proposal: Golem.OfferProposal): void {
    const { isAffordable, rentHours, specification } = this.#options
    if (!proposal.isValid() || !isAffordable(proposal)) return
    if (proposal.isInitial()) {
      this.#market.negotiateProposal(proposal, specification).catch(() => {})
    } else if (proposal.isDraft()) {
      const { id: node } = proposal.provider
      this.offers.add({ node, cost: proposal.getEstimatedCost(rentHours), proposal })
    }
  }

  /** Takes the demand off the market. */
  stop(): void {
    this.#isOver = true
    this.#timer?.clear()
    this.#polling?.unsubscribe()
    // Undefined if the demand ended while it was being published.
    this.#published?.unsubscribe()
  }
}
