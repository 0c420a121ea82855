/** The right to send: one conversation at a time has it. The others wait in the order in which they came. */
interface SendLockWaiter {
  resolve(): void
  reject(error: Error): void
}

export class SendLock {
  #isHeld = false
  #endError: Error | undefined
  #waiters: SendLockWaiter[] = []

  /** Takes the lock if it is free. Returns whether it did. */
  tryAcquire(): boolean {
    if (this.#isHeld || this.#endError) return false
    this.#isHeld = true
    return true
  }

  /** Waits for the lock. Rejects with the signal's reason, or with the link's error when the link ends. */
  acquire(signal?: AbortSignal): Promise<void> {
    if (this.tryAcquire()) return Promise.resolve()
    return new Promise((resolve, reject) => {
      if (this.#endError) return reject(this.#endError)
      if (signal?.aborted) return reject(signal.reason)
      const waiter: SendLockWaiter = {
        resolve: () => {
          signal?.removeEventListener('abort', onAbort)
          resolve()
        },
        reject,
      }
      const onAbort = (): void => {
        const index = this.#waiters.indexOf(waiter)
        if (index >= 0) this.#waiters.splice(index, 1)
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiters.push(waiter)
    })
  }

  /** Passes the lock to the caller that waits longest. */
  release(): void {
    const next = this.#waiters.shift()
    if (next) next.resolve()
    else this.#isHeld = false
  }

  stop(error: Error): void {
    this.#endError = error
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error)
  }
}
