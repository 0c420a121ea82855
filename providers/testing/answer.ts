/** A response that no instance gave. */
import { STATUS_CODES } from 'node:http'
import { Readable } from 'node:stream'
import type { Dispatcher } from 'undici'
import { asError } from '../../src/core/errors.ts'

/** Responds instead of the instance, without a body. */
export function sendAnswer(
  options: Dispatcher.DispatchOptions,
  handler: Dispatcher.DispatchHandler,
  status: number,
): boolean {
  const controller = new AnswerController((reason) => handler.onResponseError?.(controller, reason))
  // As with a connection, no handler is called before `dispatch` has returned.
  queueMicrotask(() => {
    try {
      if (options.body instanceof Readable) options.body.destroy()
      handler.onRequestStart?.(controller, {})
      if (controller.aborted) return
      handler.onResponseStart?.(controller, status, { 'content-length': '0' }, STATUS_CODES[status])
      if (!controller.aborted) controller.finish(() => handler.onResponseEnd?.(controller, {}))
    } catch (thrown) {
      controller.abort(asError(thrown))
    }
  })
  return true
}

/** The controller of an exchange that has no connection. */
class AnswerController implements Dispatcher.DispatchController {
  readonly rawHeaders = ['content-length', '0']
  readonly rawTrailers = []
  readonly #onAbort: (reason: Error) => void
  #state: 'open' | 'aborted' | 'finished' = 'open'
  #reason: Error | null = null
  #paused = false
  #end: (() => void) | undefined

  constructor(onAbort: (reason: Error) => void) {
    this.#onAbort = onAbort
  }

  get aborted(): boolean {
    return this.#state === 'aborted'
  }

  get paused(): boolean {
    return this.#paused
  }

  get reason(): Error | null {
    return this.#reason
  }

  abort(reason: Error): void {
    if (this.#state !== 'open') return
    this.#state = 'aborted'
    this.#reason = reason
    this.#onAbort(reason)
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.#tryEnd()
  }

  finish(end: () => void): void {
    this.#end = end
    this.#tryEnd()
  }

  #tryEnd(): void {
    if (this.#paused || this.#state !== 'open' || !this.#end) return
    this.#state = 'finished'
    this.#end()
  }
}
