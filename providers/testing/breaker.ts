/**
 * Breaks an exchange on its way. It is a handler of undici's new kind: `compose` gives a layer no other kind, and converts
 * handlers of the old kind. Controllers are passed on unchanged, so a caller that pauses still pauses the connection.
 */
import type { Dispatcher } from 'undici'
import type { FaultStage } from './fault-plan.ts'
import { networkError } from './in-process-socket.ts'

type FaultHandler = Dispatcher.DispatchHandler
type FaultController = Dispatcher.DispatchController
type FaultHeaders = Parameters<NonNullable<FaultHandler['onResponseStart']>>[2]

/** Lets an exchange go on up to `stage`, and breaks it there. `onBroken` is called when it has broken. */
export class FaultBreaker implements FaultHandler {
  readonly #next: FaultHandler
  readonly #stage: FaultStage
  readonly #onBroken: () => void
  readonly #error: Error
  #broken = false
  /** Bytes of the body to let through: half of it, or half of its first chunk if its length is not known. */
  #quota: number | undefined

  constructor(next: FaultHandler, stage: FaultStage, onBroken: () => void) {
    this.#next = next
    this.#stage = stage
    this.#onBroken = onBroken
    this.#error = networkError('ECONNRESET', 'read', `injected fault, after: ${stage}`)
  }

  onRequestStart(controller: FaultController, context: unknown): void {
    // Nothing was written yet, and undici never writes a request that is aborted here.
    if (this.#stage === 'request') this.#break(controller)
    else this.#next.onRequestStart?.(controller, context)
  }

  onRequestUpgrade(...args: Parameters<NonNullable<FaultHandler['onRequestUpgrade']>>): void {
    const [controller, , , socket] = args
    this.#break(controller)
    socket.on('error', () => {}).destroy()
  }

  onResponseStarted(): void {
    if (!this.#broken) this.#next.onResponseStarted?.()
  }

  onResponseStart(
    controller: FaultController,
    status: number,
    headers: FaultHeaders,
    text?: string,
  ): void {
    if (this.#broken) return
    if (status >= 200 && this.#stage === 'headers') {
      this.#break(controller)
      return
    }
    if (status >= 200 && headers['content-length'] !== undefined) {
      this.#quota = Math.floor(Number(headers['content-length']) / 2)
    }
    this.#next.onResponseStart?.(controller, status, headers, text)
  }

  onResponseData(controller: FaultController, chunk: Buffer): void {
    if (this.#broken) return
    this.#quota ??= Math.floor(chunk.length / 2)
    const passed = chunk.subarray(0, this.#quota)
    this.#quota -= passed.length
    if (passed.length > 0) this.#next.onResponseData?.(controller, passed)
    if (passed.length < chunk.length) this.#break(controller)
  }

  onResponseEnd(controller: FaultController): void {
    // An empty body has no middle, and some exchanges cannot be aborted before: they break here at the latest.
    this.#break(controller)
  }

  onResponseError(controller: FaultController, error: Error): void {
    // The caller has aborted the exchange, or the instance has failed before.
    if (!this.#broken) this.#next.onResponseError?.(controller, error)
  }

  #break(controller: FaultController): void {
    if (this.#broken) return
    this.#broken = true
    this.#onBroken()
    controller.abort(this.#error)
    this.#next.onResponseError?.(controller, this.#error)
  }
}
