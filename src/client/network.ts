/** A request to a URL that is nobody's virtual URL: to the real network, as it would go without a session. */
import type { Duplex } from 'node:stream'
import type { Dispatcher } from 'undici'
import { isWholeAnyway } from '../core/connector.ts'
import { asError, describe, ManyhostError } from '../core/errors.ts'
import { after, type Timer } from '../core/time.ts'
import type { RequestFacts, Sink } from '../dispatch/exchange.ts'
import { blameOf, reasonOf } from '../dispatch/verdict.ts'
import type { Flow } from './response-reader.ts'

export function sendToNetwork(
  dispatcher: Dispatcher,
  origin: string,
  facts: RequestFacts,
  sink: Sink,
): Flow {
  const passage = new Passage(facts, sink, origin)
  const { body } = facts
  try {
    dispatcher.dispatch(
      {
        origin,
        path: facts.path,
        method: facts.method as Dispatcher.HttpMethod,
        headers: facts.headers,
        body: (body !== null && typeof body === 'object' && 'open' in body
          ? body.open()
          : body) as NonNullable<Dispatcher.DispatchOptions['body']>,
      },
      passage,
    )
  } catch (error) {
    passage.onResponseError(undefined, asError(error))
  }
  return passage
}

class Passage implements Flow, Dispatcher.DispatchHandler {
  readonly #facts: RequestFacts
  readonly #sink: Sink
  readonly #origin: string
  #controller: Dispatcher.DispatchController | undefined
  #cancelled: Error | undefined
  /** Of the answer whose head has come; 0 before that. */
  #status = 0
  readonly #timer: Timer | undefined

  constructor(facts: RequestFacts, sink: Sink, origin: string) {
    this.#facts = facts
    this.#sink = sink
    this.#origin = origin
    const { timeout = 0, method, path } = facts
    if (timeout > 0) {
      this.#timer = after(timeout, () => {
        const text = `${method} ${origin}${path}: ${timeout} ms passed`
        this.cancel(new ManyhostError('MANYHOST_TIMEOUT', text))
      })
    }
  }

  cancel(reason: Error): void {
    if (this.#cancelled) return
    this.#end()
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

  #end(): void {
    this.#timer?.clear()
    const { body } = this.#facts
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
    this.#end()
    this.#cancelled = ENDED
    this.#sink.onEnd((controller.rawTrailers ?? []) as Buffer[])
  }

  onResponseError(_controller: unknown, error: Error): void {
    if (this.#cancelled) return
    if (isWholeAnyway(error, this.#status)) return this.onResponseEnd({})
    this.#end()
    this.#cancelled = error
    const { method, path, body } = this.#facts
    const bodyError = body !== null && typeof body === 'object' && 'error' in body && body.error
    const hasHead = this.#status > 0
    const reason = reasonOf(error, true, hasHead)
    const refused = reason === 'protocol' ? 'MANYHOST_BAD_RESPONSE' : 'MANYHOST_ATTEMPT_FAILED'
    const broken = hasHead ? 'MANYHOST_RESPONSE_INTERRUPTED' : refused
    const code = reason === 'caller' ? blameOf(error) : broken
    this.#sink.onError(
      bodyError ||
        new ManyhostError(code, `${method} ${this.#origin}${path}: ${describe(error)}`, {
          cause: error,
        }),
    )
  }
}

const ENDED = new Error('ended')
