/** The right to send: one conversation at a time has it, the others wait in line. */
interface Waiter {
  take(): void
  fail(error: Error): void
}

export class Turn {
  #isTaken = false
  #ended: Error | undefined
  #line: Waiter[] = []

  /** Takes it if nobody has it. */
  tryTake(): boolean {
    if (this.#isTaken || this.#ended) return false
    this.#isTaken = true
    return true
  }

  /** Waits for it; rejects with the signal's reason, or when the link ends. */
  take(signal?: AbortSignal): Promise<void> {
    if (this.tryTake()) return Promise.resolve()
    return new Promise((take, fail) => {
      if (this.#ended) return fail(this.#ended)
      if (signal?.aborted) return fail(signal.reason)
      const waiter: Waiter = {
        take: () => {
          signal?.removeEventListener('abort', onAbort)
          take()
        },
        fail,
      }
      const onAbort = (): void => {
        const index = this.#line.indexOf(waiter)
        if (index >= 0) this.#line.splice(index, 1)
        fail(signal?.reason)
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#line.push(waiter)
    })
  }

  give(): void {
    const next = this.#line.shift()
    if (next) next.take()
    else this.#isTaken = false
  }

  end(error: Error): void {
    this.#ended = error
    for (const waiter of this.#line.splice(0)) waiter.fail(error)
  }
}
