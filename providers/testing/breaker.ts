/**
 * Breaks an exchange on its way, in undici's new shape of handler: `compose` shows a layer no other, and turns callers
 * of the old one. Controllers are passed on as they are, so a caller that pauses still pauses the connection.
 */
import type { Dispatcher } from 'undici'
import type { FaultStage } from './fault-plan.ts'
import { networkError } from './in-process-socket.ts'

type FaultHandler = Dispatcher.DispatchHandler
type FaultController = Dispatcher.DispatchController
type FaultHeaders = Parameters<NonNullable<FaultHandler['onResponseStart']>>[2]

/** Lets an exchange go on up to `stage`, and breaks it there; `onBroken` is called when it did. */
export class FaultBreaker implements FaultHandler {
  readonly #next: FaultHandler
  readonly #stage: FaultStage
  readonly #onBroken: () => void
  readonly #error: Error
  #broken = false
  /** Bytes of the body to let through; found out by its first chunk when its length is not known. */
  #quota: number | undefined

  constructor(next: FaultHandler, stage: FaultStage, onBroken: () => void) {
    this.#next = next
    this.#stage = stage
    this.#onBroken = onBroken
    this.#error = networkError('ECONNRESET', 'read', `injected fault, after: ${stage}`)
  }

  onRequestStart(controller: FaultController, context: unknown): void {
    // Here nothing is written yet, and what undici aborts here is never written.
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
    // A body of no bytes has no middle, and what cannot be aborted comes to its end: it breaks here at the latest.
    this.#break(controller)
  }

  onResponseError(controller: FaultController, error: Error): void {
    // The caller's own abort, or a failure of the instance that came first.
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
