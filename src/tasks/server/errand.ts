/**
 * One task that is a request, on its way through the queue of its service. It takes the answer as the data plane has it:
 * nobody is to see a response, so none is made, and no promise, and no signal.
 */
import type { Duplex } from 'node:stream'
import { type Hop, nextHop } from '../../client/redirect.ts'
import { checkedHeaders, methodOf, targetOf } from '../../client/request.ts'
import { asError, ManyhostError } from '../../core/errors.ts'
import { wallClock } from '../../core/time.ts'
import type { Exchange, RawHeaders, Sink } from '../../dispatch/exchange.ts'
import { requestFacts } from '../../dispatch/facts.ts'
import type { Session } from '../../session/session.ts'
import type { Task, TaskRequest } from '../task.ts'

/** As the web has it (WHATWG Fetch). */
const MOST_REDIRECTS = 20

export interface ErrandParts {
  readonly session: Session
  readonly priority: number
  /** Takes what was answered, where somebody wants it; the instance waits for the promise. */
  output(task: Task, chunk: Uint8Array): Promise<void> | undefined
  /** The last that is heard of it, once: an answer has come whole, or there is none. */
  ended(errand: Errand, error?: Error): void
}

export class Errand implements Sink {
  readonly task: Task
  /** Milliseconds since 1970. */
  readonly begun = wallClock()
  /** Of the answer. */
  status = 0
  readonly #parts: ErrandParts
  readonly #timeout: number
  #exchange: Exchange | undefined
  #hop: Hop | TaskRequest
  /** Where the answer leads. */
  #next: Hop | undefined
  #redirects = 0

  /** @param timeout of each request, in ms; 0: unlimited */
  constructor(task: Task, timeout: number, parts: ErrandParts) {
    this.task = task
    this.#timeout = timeout
    this.#parts = parts
    this.#hop = task.request as TaskRequest
  }

  /** Milliseconds that it waited for its instance. */
  get queued(): number {
    return this.#exchange?.queued ?? 0
  }

  /** Id of the instance that had it last; null where none did. */
  get instance(): string | null {
    return this.#exchange?.instance || null
  }

  /** Sets out. It may end before this returns. */
  send(): void {
    try {
      const { method, url, headers, body } = this.#hop
      const { origin, host, path } = targetOf(url)
      const { session, priority } = this.#parts
      const cluster = session.match(origin, path)
      if (!cluster) {
        throw new ManyhostError('MANYHOST_UNKNOWN_SERVICE', `no service is at ${url}`)
      }
      const facts = requestFacts({
        method: methodOf(method),
        path,
        host,
        headers: checkedHeaders(headers),
        body: { body: body as string | null, type: undefined },
        // The same key for each attempt of one task, so that the service may know it again.
        routing: { priority, timeout: this.#timeout, idempotencyKey: this.task.id },
        ids: session.ids,
      })
      this.#exchange = cluster.send(facts, this)
    } catch (error) {
      this.#parts.ended(this, asError(error))
    }
  }

  /** Gives it up: it ends with this error. */
  cancel(reason: Error): void {
    this.#exchange?.cancel(reason)
  }

  onInfo(): void {}

  onHead(status: number, headers: RawHeaders): void {
    this.status = status
    if (status < 300 || status >= 400) return
    const hop = this.#hop
    const call = { ...hop, headers: checkedHeaders(hop.headers), redirects: this.#redirects }
    const body = { body: hop.body as string | null, type: undefined }
    try {
      const following = { mode: 'follow', limit: MOST_REDIRECTS, body } as const
      this.#next = nextHop({ status, headers }, call, following)
    } catch (error) {
      this.cancel(asError(error))
    }
  }

  onData(chunk: Buffer): void {
    // The body of a redirect is for nobody.
    const taken = this.#next ? undefined : this.#parts.output(this.task, chunk)
    if (!taken) return
    const exchange = this.#exchange as Exchange
    exchange.pause()
    taken.then(
      () => exchange.resume(),
      (error) => this.cancel(asError(error)),
    )
  }

  onEnd(): void {
    if (!this.#next) return this.#parts.ended(this)
    this.#hop = this.#next
    this.#next = undefined
    this.#redirects++
    this.send()
  }

  onUpgrade(_status: number, _headers: RawHeaders, socket: Duplex): void {
    socket.destroy()
    this.onError(new Error('the instance switched protocols unasked'))
  }

  onError(error: Error): void {
    this.#parts.ended(this, error)
  }
}
