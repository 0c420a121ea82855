/** Lets callers wait until a condition holds. The condition is checked again at each `notify`. */
export class ConditionVariable {
  readonly #watchers = new Set<() => void>()

  /** Something that a condition depends on may have changed. */
  notify(): void {
    for (const watcher of [...this.#watchers]) watcher()
  }

  /** Resolves when the condition holds. */
  waitUntil(holds: () => boolean): Promise<void> {
    if (holds()) return Promise.resolve()
    return new Promise((resolve) => {
      const check = (): void => {
        if (!holds()) return
        this.#watchers.delete(check)
        resolve()
      }
      this.#watchers.add(check)
    })
  }
}
