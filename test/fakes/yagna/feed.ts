/** Events as yagna's long polls hand them out: each has a time of its own, and a reader asks for what is later. */
import { now, sleep } from '../../../src/core/time.ts'

export interface Dated {
  readonly eventDate: string
}

let last = 0

/** Never the same twice: two events at one time would be one too few for a reader. */
export function stamp(): string {
  last = Math.max(last + 1, Date.now())
  return new Date(last).toISOString()
}

export class Feed {
  readonly #events: Dated[] = []

  push(event: object): void {
    this.#events.push({ ...event, eventDate: stamp() })
  }

  /** Waits for events later than `after`, at most so many seconds. */
  async poll(after: string | null, seconds: number, isOver: () => boolean): Promise<Dated[]> {
    const deadline = now() + seconds * 1_000
    for (;;) {
      const later = this.#events.filter(({ eventDate }) => after === null || eventDate > after)
      if (later.length > 0 || isOver() || now() >= deadline) return later
      await sleep(5)
    }
  }

  /** Hands out what there is, once. */
  async drain(seconds: number, isOver: () => boolean): Promise<Dated[]> {
    await this.poll(null, seconds, isOver)
    return this.#events.splice(0)
  }
}
