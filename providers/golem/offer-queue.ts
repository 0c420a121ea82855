/**
 * GolemOfferQueue that have been negotiated and may be signed: the cheapest first, one of each node. The pool of golem-js gives
 * an offer of a node that is in use to whoever waits, and one node can be but once in a private network.
 */

export interface GolemOffer {
  readonly node: string
  /** What an hour costs. */
  readonly cost: number
}

/** Above it the dearest ones are dropped. */
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

  /** A newer offer of the same node takes the place of the older one. */
  add(offer: O): void {
    this.#offers = [...this.#offers.filter(({ node }) => node !== offer.node), offer]
      .sort((a, b) => a.cost - b.cost)
      .slice(0, MAX_OFFERS)
    this.serveWaiting()
  }

  /** To be called when offers that could not be used may be usable now. */
  serveWaiting(): void {
    for (;;) {
      const [first] = this.#waiting
      const offer = first && this.#offers.find(this.#isUsable)
      if (!offer) return
      this.#waiting.shift()
      this.#drop(offer)
      // It takes note of the node at once, so that the next one gets another.
      first.take(offer)
    }
  }

  /** The cheapest usable one, or the next that comes. `reserve` is called before anybody else is given one. */
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
