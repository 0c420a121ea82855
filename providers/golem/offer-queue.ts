/**
 * The negotiated offers that may be signed: cheapest first, one of each node. The pool of golem-js is not used because it
 * also gives offers of nodes that are in use, and a node can be only once in a private network.
 */

export interface GolemOffer {
  readonly node: string
  /** Cost of an hour, in GLM. */
  readonly cost: number
}

/** Maximum number of offers. The most expensive ones are dropped first. */
const MAX_OFFERS = 1_000

export class GolemOfferQueue<O extends GolemOffer> {
  readonly #isUsable: (offer: O) => boolean
  #offers: O[] = []
  #waiting: { readonly take: (offer: O) => void }[] = []

  constructor(isUsable: (offer: O) => boolean) {
    this.#isUsable = isUsable
  }

  get size(): number {
    return this.#offers.length
  }

  /** A newer offer of a node replaces its older one. */
  add(offer: O): void {
    this.#offers = [...this.#offers.filter(({ node }) => node !== offer.node), offer]
      .sort((a, b) => a.cost - b.cost)
      .slice(0, MAX_OFFERS)
    this.serveWaiting()
  }

  /** Call this when offers may have become usable. */
  serveWaiting(): void {
    for (;;) {
      const [first] = this.#waiting
      const offer = first && this.#offers.find(this.#isUsable)
      if (!offer) return
      this.#waiting.shift()
      this.#drop(offer)
      // It marks the node as busy at once, so that the next start gets another node.
      first.take(offer)
    }
  }

  /** Takes the cheapest usable offer, or the next that comes. @param reserve is called before anybody else gets an offer */
  take(signal: AbortSignal, reserve: (offer: O) => void): Promise<O> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      const onAbort = (): void => {
        this.#waiting = this.#waiting.filter((one) => one !== waiter)
        reject(signal.reason)
      }
      const waiter = {
        take: (offer: O): void => {
          signal.removeEventListener('abort', onAbort)
          reserve(offer)
          resolve(offer)
        },
      }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#waiting.push(waiter)
      this.serveWaiting()
    })
  }

  #drop(offer: O): void {
    this.#offers = this.#offers.filter((one) => one !== offer)
  }
}
