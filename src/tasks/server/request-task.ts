/**
 * One task that is a request, on its way through the queue of its service. It takes the answer straight from the data plane.
 * The client would make a response, a promise and an abort signal for each request, which nobody here needs.
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

/** Most redirects of one request, as in WHATWG Fetch. */
const MAX_REDIRECTS = 20

export interface RequestTaskParts {
  readonly session: SessionCore
  readonly priority: number
  /** Takes a part of the answer's body. The instance waits for the promise; undefined: the part is not wanted. */
  onOutput(task: Task, chunk: Uint8Array): Promise<void> | undefined
  /** Called once, at the end: the answer is complete, or there is an error instead. */
  onEnded(requestTask: RequestTask, error?: Error): void
}

export class RequestTask implements ResponseSink {
  readonly task: Task
  /** Milliseconds since 1970. */
  readonly startedAt = wallClock()
  /** Of the answer; 0 before there is one. */
  status = 0
  readonly #parts: RequestTaskParts
  readonly #timeoutMs: number
  #exchange: Exchange | undefined
  /** The request that is under way: the task's own, or the one that the last redirect asked for. */
  #current: RedirectedRequest | TaskRequest
  /** The request that the answer redirects to. */
  #next: RedirectedRequest | undefined
  #redirectCount = 0

  /** @param timeoutMs of each request; 0: unlimited */
  constructor(task: Task, timeoutMs: number, parts: RequestTaskParts) {
    this.task = task
    this.#timeoutMs = timeoutMs
    this.#parts = parts
    this.#current = task.request as TaskRequest
  }

  /** Milliseconds for which it waited for an instance. */
  get queuedMs(): number {
    return this.#exchange?.queued ?? 0
  }

  /** Id of the instance that had it last; null if none had it. */
  get instanceId(): string | null {
    return this.#exchange?.instance || null
  }

  /** Sends the request. It may end before this returns. */
  send(): void {
    try {
      const { method, url, headers, body } = this.#current
      const { origin, host, path } = parseTargetUrl(url)
      const { session, priority } = this.#parts
      const cluster = session.match(origin, path)
      if (!cluster) {
        throw new ManyhostError('MANYHOST_UNKNOWN_SERVICE', `no service is at ${url}`)
      }
      const input = buildRequestInput({
        method: parseHttpMethod(method),
        path,
        host,
        headers: flattenCheckedHeaders(headers),
        body: { body: body as string | null, contentType: undefined },
        // The same key for each attempt of one task, so that the service can recognize a repetition.
        routing: { priority, timeout: this.#timeoutMs, idempotencyKey: this.task.id },
        ids: session.ids,
      })
      this.#exchange = cluster.send(input, this)
    } catch (error) {
      this.#parts.onEnded(this, asError(error))
    }
  }

  /** Gives the request up: it ends with this error. */
  cancel(reason: Error): void {
    this.#exchange?.cancel(reason)
  }

  onInfo(): void {}

  onHead(status: number, headers: RawHeaders): void {
    this.status = status
    if (status < 300 || status >= 400) return
    const current = this.#current
    const checked = flattenCheckedHeaders(current.headers)
    const call = { ...current, headers: checked, redirects: this.#redirectCount }
    const body = { body: current.body as string | null, contentType: undefined }
    try {
      const policy = { mode: 'follow', limit: MAX_REDIRECTS, body } as const
      this.#next = nextRedirect({ status, headers }, call, policy)
    } catch (error) {
      this.cancel(asError(error))
    }
  }

  onData(chunk: Buffer): void {
    // The body of a redirect is dropped.
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
    this.#current = this.#next
    this.#next = undefined
    this.#redirectCount++
    this.send()
  }

  onUpgrade(_status: number, _headers: RawHeaders, socket: Duplex): void {
    socket.destroy()
    this.onError(
      new Error('the instance switched protocols although the request did not ask for that'),
    )
  }

  onError(error: Error): void {
    this.#parts.onEnded(this, error)
  }
}
