/** Who waits for something to become true, and looks again whenever something has changed. */
export class ConditionVariable {
  readonly #watchers = new Set<() => void>()

  notify(): void {
    for (const watcher of [...this.#watchers]) watcher()
  }

  /** Resolves when it holds. */
  waitUntil(holds: () => boolean): Promise<void> {
    if (holds()) return Promise.resolve()
    return new Promise((resolve) => {
      const look = (): void => {
        if (!holds()) return
        this.#watchers.delete(look)
        resolve()
      }
      this.#watchers.add(look)
    })
  }
}
