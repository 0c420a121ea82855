/** The destinations of one peer's messages, so that the beginning of a message is parsed, and its right checked, once. */
import { hasPrefix } from './frame.ts'
import type { RouteStats } from './stats.ts'

/** The destination of messages whose body begins with `prefix`. The right to publish there was checked. */
export interface PublishRoute {
  readonly channel: string
  readonly prefix: Buffer
  readonly stats: RouteStats
}

const MAX_ROUTES = 8

export class PublishRoutes {
  readonly #routes: PublishRoute[] = []

  /** The route of a message whose body lies in `bytes` from `start` to `end`. */
  find(bytes: Buffer, start: number, end: number): PublishRoute | undefined {
    return this.#routes.find(({ prefix }) => hasPrefix(bytes, start, end, prefix))
  }

  /** Adds a route, and drops the oldest one if there are too many. */
  add(route: PublishRoute): void {
    if (this.#routes.unshift(route) > MAX_ROUTES) this.#routes.pop()
  }

  clear(): void {
    this.#routes.length = 0
  }
}
