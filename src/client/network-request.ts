/** A request to a URL that is no virtual URL. It goes to the real network, as it would without a session. */
import type { Duplex } from 'node:stream'
import type { Dispatcher } from 'undici'
import { isCompleteDespiteError } from '../core/connector.ts'
import { asError, describeError, ManyhostError } from '../core/errors.ts'
import { after, type Timer } from '../core/time.ts'
import type { RequestInput, ResponseSink } from '../dispatch/exchange.ts'
import { callerErrorCode, failureReasonOf } from '../dispatch/verdict.ts'
import type { ResponseControl } from './response-reader.ts'

export function sendToNetwork(
  dispatcher: Dispatcher,
  origin: string,
  input: RequestInput,
  sink: ResponseSink,
): ResponseControl {
  const request = new NetworkRequest(input, sink, origin)
  const { body } = input
  try {
    dispatcher.dispatch(
      {
        origin,
        path: input.path,
        method: input.method as Dispatcher.HttpMethod,
        headers: input.headers,
        body: (body !== null && typeof body === 'object' && 'open' in body
          ? body.open()
          : body) as NonNullable<Dispatcher.DispatchOptions['body']>,
      },
      request,
    )
  } catch (error) {
    request.onResponseError(undefined, asError(error))
  }
  return request
}

class NetworkRequest implements ResponseControl, Dispatcher.DispatchHandler {
  readonly #request: RequestInput
  readonly #sink: ResponseSink
  readonly #origin: string
  #controller: Dispatcher.DispatchController | undefined
  #cancelled: Error | undefined
  /** The status of the response; 0 before its head has come. */
  #status = 0
  readonly #timer: Timer | undefined

  constructor(input: RequestInput, sink: ResponseSink, origin: string) {
    this.#request = input
    this.#sink = sink
    this.#origin = origin
    const { timeout = 0, method, path } = input
    if (timeout > 0) {
      this.#timer = after(timeout, () => {
        const text = `${method} ${origin}${path}: ${timeout} ms passed`
        this.cancel(new ManyhostError('MANYHOST_TIMEOUT', text))
      })
    }
  }

  cancel(reason: Error): void {
    if (this.#cancelled) return
    this.#release()
    this.#cancelled = reason
    this.#controller?.abort(reason)
    this.#sink.onError(reason)
  }

  pause(): void {
    this.#controller?.pause()
  }

  resume(): void {
    this.#controller?.resume()
  }

  #release(): void {
    this.#timer?.clear()
    const { body } = this.#request
    if (body !== null && typeof body === 'object' && 'dispose' in body) body.dispose()
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#cancelled) controller.abort(this.#cancelled)
  }

  onRequestUpgrade(
    _controller: Dispatcher.DispatchController,
    status: number,
    _headers: unknown,
    socket: Duplex,
  ): void {
    this.#sink.onUpgrade(status, [], socket)
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    _headers: unknown,
    text?: string,
  ): void {
    const headers = (controller.rawHeaders ?? []) as Buffer[]
    if (status < 200) return this.#sink.onInfo(status, headers, text ?? '')
    this.#status = status
    this.#sink.onHead(status, headers, text ?? '', false)
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#cancelled) this.#sink.onData(chunk)
  }

  onResponseEnd(controller: Pick<Dispatcher.DispatchController, 'rawTrailers'>): void {
    if (this.#cancelled) return
    this.#release()
    this.#cancelled = ENDED
    this.#sink.onEnd((controller.rawTrailers ?? []) as Buffer[])
  }

  onResponseError(_controller: unknown, error: Error): void {
    if (this.#cancelled) return
    if (isCompleteDespiteError(error, this.#status)) return this.onResponseEnd({})
    this.#release()
    this.#cancelled = error
    const { method, path, body } = this.#request
    const bodyError = body !== null && typeof body === 'object' && 'error' in body && body.error
    const hasHead = this.#status > 0
    const reason = failureReasonOf(error, true, hasHead)
    const refused = reason === 'protocol' ? 'MANYHOST_BAD_RESPONSE' : 'MANYHOST_ATTEMPT_FAILED'
    const broken = hasHead ? 'MANYHOST_RESPONSE_INTERRUPTED' : refused
    const code = reason === 'caller' ? callerErrorCode(error) : broken
    this.#sink.onError(
      bodyError ||
        new ManyhostError(code, `${method} ${this.#origin}${path}: ${describeError(error)}`, {
          cause: error,
        }),
    )
  }
}

const ENDED = new Error('ended')
