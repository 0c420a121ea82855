/**
 * One task that is a request, on its way through the queue of its service. It takes the answer as the data plane has it:
 * nobody is to see a response, so none is made, and no promise, and no signal.
 */
import type { Duplex } from 'node:stream'
import { nextRedirect, type RedirectedRequest } from '../../client/redirect.ts'
import { flattenCheckedHeaders, parseHttpMethod, parseTargetUrl } from '../../client/request.ts'
import { asError, ManyhostError } from '../../core/errors.ts'
import { wallClock } from '../../core/time.ts'
import type { Exchange, RawHeaders, ResponseSink } from '../../dispatch/exchange.ts'
import { buildRequestInput } from '../../dispatch/request-input.ts'
import type { SessionCore } from '../../session/session.ts'
import type { Task, TaskRequest } from '../model/task.ts'

/** As the web has it (WHATWG Fetch). */
const MAX_REDIRECTS = 20

export interface RequestTaskParts {
  readonly session: SessionCore
  readonly priority: number
  /** Takes what was answered, where somebody wants it; the instance waits for the promise. */
  onOutput(task: Task, chunk: Uint8Array): Promise<void> | undefined
  /** The last that is heard of it, once: an answer has come whole, or there is none. */
  onEnded(errand: RequestTask, error?: Error): void
}

export class RequestTask implements ResponseSink {
  readonly task: Task
  /** Milliseconds since 1970. */
  readonly startedAt = wallClock()
  /** Of the answer. */
  status = 0
  readonly #parts: RequestTaskParts
  readonly #timeout: number
  #exchange: Exchange | undefined
  #hop: RedirectedRequest | TaskRequest
  /** Where the answer leads. */
  #next: RedirectedRequest | undefined
  #redirects = 0

  /** @param timeout of each request, in ms; 0: unlimited */
  constructor(task: Task, timeout: number, parts: RequestTaskParts) {
    this.task = task
    this.#timeout = timeout
    this.#parts = parts
    this.#hop = task.request as TaskRequest
  }

  /** Milliseconds that it waited for its instance. */
  get queuedMs(): number {
    return this.#exchange?.queued ?? 0
  }

  /** Id of the instance that had it last; null where none did. */
  get instanceId(): string | null {
    return this.#exchange?.instance || null
  }

  /** Sets out. It may end before this returns. */
  send(): void {
    try {
      const { method, url, headers, body } = this.#hop
      const { origin, host, path } = parseTargetUrl(url)
      const { session, priority } = this.#parts
      const cluster = session.match(origin, path)
      if (!cluster) {
        throw new ManyhostError('MANYHOST_UNKNOWN_SERVICE', `no service is at ${url}`)
      }
      const facts = buildRequestInput({
        method: parseHttpMethod(method),
        path,
        host,
        headers: flattenCheckedHeaders(headers),
        body: { body: body as string | null, contentType: undefined },
        // The same key for each attempt of one task, so that the service may know it again.
        routing: { priority, timeout: this.#timeout, idempotencyKey: this.task.id },
        ids: session.ids,
      })
      this.#exchange = cluster.send(facts, this)
    } catch (error) {
      this.#parts.onEnded(this, asError(error))
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
    const call = { ...hop, headers: flattenCheckedHeaders(hop.headers), redirects: this.#redirects }
    const body = { body: hop.body as string | null, contentType: undefined }
    try {
      const following = { mode: 'follow', limit: MAX_REDIRECTS, body } as const
      this.#next = nextRedirect({ status, headers }, call, following)
    } catch (error) {
      this.cancel(asError(error))
    }
  }

  onData(chunk: Buffer): void {
    // The body of a redirect is for nobody.
    const taken = this.#next ? undefined : this.#parts.onOutput(this.task, chunk)
    if (!taken) return
    const exchange = this.#exchange as Exchange
    exchange.pause()
    taken.then(
      () => exchange.resume(),
      (error) => this.cancel(asError(error)),
    )
  }

  onEnd(): void {
    if (!this.#next) return this.#parts.onEnded(this)
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
    this.#parts.onEnded(this, error)
  }
}
