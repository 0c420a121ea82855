/** The listeners of `Store.onAdded`. Other processes are listened to for as long as there is a listener. */

export class AddedListeners {
  readonly #listeners = new Set<() => void>()
  readonly #listenToOthers: () => () => void
  #stopListening: (() => void) | undefined

  /** @param listenToOthers starts to listen to other processes, and returns the function that stops it */
  constructor(listenToOthers: () => () => void) {
    this.#listenToOthers = listenToOthers
  }

  add(listener: () => void): () => void {
    // The same function may be added twice, and each of them be removed alone.
    const own = (): void => listener()
    this.#listeners.add(own)
    this.#stopListening ??= this.#listenToOthers()
    return () => {
      this.#listeners.delete(own)
      if (this.#listeners.size > 0) return
      this.#stopListening?.()
      this.#stopListening = undefined
    }
  }

  notify(): void {
    for (const listener of this.#listeners) listener()
  }

  close(): void {
    this.#stopListening?.()
    this.#listeners.clear()
  }
}
