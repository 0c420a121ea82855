/**
 * Hands out the slots of a cluster. p-queue is the gate: its concurrency is the number of slots, it is paused when there
 * are none, and each of its tasks (a *slot task*) is the right to use one slot.
 *
 * A slot task does not end with a request. It serves request after request and ends when there is a slot less. So a
 * request costs neither the 3 us nor the 900 bytes of a task. Slot tasks are interchangeable: no task belongs to a
 * certain slot or request. `running` tasks and the requests in flight are only counted against each other.
 */
import PQueue from 'p-queue'

export class SlotGate {
  readonly #queue = new PQueue({ concurrency: 1, autoStart: false })
  /** One function for each running slot task. It ends the task. */
  readonly #endTask: (() => void)[] = []
  readonly #onTask: () => void

  /** @param onTask called when a slot task has begun */
  constructor(onTask: () => void) {
    this.#onTask = onTask
  }

  /** Slot tasks that run: the requests that may be in flight at once for now. */
  get running(): number {
    return this.#endTask.length
  }

  /** Whether a slot has no task yet, so that `requestTask` begins one at once. */
  get hasUnusedSlot(): boolean {
    return !this.#queue.isPaused && this.#queue.pending < this.#queue.concurrency
  }

  /** Asks for one more slot task. False if one was asked for already that has not begun. */
  requestTask(): boolean {
    if (this.#queue.size > 0) return false
    void this.#queue.add(this.#runTask)
    return true
  }

  readonly #runTask = (): Promise<void> => {
    const ended = new Promise<void>((resolve) => {
      this.#endTask.push(resolve)
    })
    this.#onTask()
    return ended
  }

  /** Sets how many slots there are: ends the tasks that are too many, and pauses without a slot. */
  resize(slots: number): void {
    while (this.#endTask.length > slots) this.#endTask.pop()?.()
    if (slots === 0) {
      // p-queue refuses a concurrency of 0.
      this.#queue.pause()
      return
    }
    if (slots !== this.#queue.concurrency) this.#queue.concurrency = slots
    if (this.#queue.isPaused) this.#queue.start()
  }
}
