/** A demand that is published, and the offers to it as they are negotiated. */
import { afterUnref, type Timer } from '../../src/core/time.ts'
import { type GolemOffer, GolemOfferQueue } from './offer-queue.ts'
import type { Golem } from './packages.ts'

/** Between a long poll for offers that failed and the next, in ms. */
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
  /** Whether its price is one that is paid. */
  readonly isAffordable: (proposal: Golem.OfferProposal) => boolean
  /** Whether the node may be rented now. */
  readonly isUsable: (node: string) => boolean
  /** It is on the market no more. */
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
      // Nodes write what they like into their offers, and golem-js throws when it reads some of it.
    }
  }

  #handleProposal(proposal: Golem.OfferProposal): void {
    const { isAffordable: isCheap, rentHours, specification } = this.#options
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
    this.#polling?.unsubscribe()
    // undefined where it ended while it was being made.
    this.#published?.unsubscribe()
  }
}
