/** The right to send: one conversation at a time has it, the others wait in line. */
interface SendLockWaiter {
  take(): void
  fail(error: Error): void
}

export class SendLock {
  #isHeld = false
  #endError: Error | undefined
  #waiters: SendLockWaiter[] = []

  /** Takes it if nobody has it. */
  tryAcquire(): boolean {
    if (this.#isHeld || this.#endError) return false
    this.#isHeld = true
    return true
  }

  /** Waits for it; rejects with the signal's reason, or when the link ends. */
  acquire(signal?: AbortSignal): Promise<void> {
    if (this.tryAcquire()) return Promise.resolve()
    return new Promise((take, fail) => {
      if (this.#endError) return fail(this.#endError)
      if (signal?.aborted) return fail(signal.reason)
      const waiter: SendLockWaiter = {
        take: () => {
          signal?.removeEventListener('abort', onAbort)
          take()
        },
        fail,
      }
      const onAbort = (): void => {
        const index = this.#waiters.indexOf(waiter)
        if (index >= 0) this.#waiters.splice(index, 1)
        fail(signal?.reason)
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiters.push(waiter)
    })
  }

  release(): void {
    const next = this.#waiters.shift()
    if (next) next.take()
    else this.#isHeld = false
  }

  stop(error: Error): void {
    this.#endError = error
    for (const waiter of this.#waiters.splice(0)) waiter.fail(error)
  }
}
