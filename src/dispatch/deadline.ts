/** Bounds the time of a request: all attempts, the time in the queue, and the body of the response. */
import { ManyhostError } from '../core/errors.ts'
import { after } from '../core/time.ts'
import type { Exchange } from './exchange.ts'
import type { DispatchSettings } from './settings.ts'

export function deadlineLayer(
  next: (exchange: Exchange) => void,
  settings: DispatchSettings,
): (exchange: Exchange) => void {
  return (exchange) => {
    const timeout = timeoutOf(exchange, settings)
    if (timeout > 0)
      exchange.timer = after(timeout, () => expireExchange(exchange, timeout, settings))
    next(exchange)
  }
}

/** Milliseconds for all attempts; 0: no limit. */
function timeoutOf({ request }: Exchange, settings: DispatchSettings): number {
  return request.timeout ?? settings.timeout
}

/** Milliseconds from `at` to the deadline of a request; Infinity without a deadline. */
export function remainingTime(exchange: Exchange, settings: DispatchSettings, at: number): number {
  const timeout = timeoutOf(exchange, settings)
  return timeout > 0 ? exchange.startedAt + timeout - at : Number.POSITIVE_INFINITY
}

function expireExchange(exchange: Exchange, timeout: number, { service }: DispatchSettings): void {
  const { request, attempts, reports } = exchange
  const where = attempts === 0 ? 'while it waited for an instance' : `in attempt ${attempts}`
  exchange.cancel(
    new ManyhostError(
      'MANYHOST_TIMEOUT',
      `${request.method} ${service} ${request.path}: ${timeout} ms passed ${where}`,
      { service, attempts: reports ?? [] },
    ),
  )
}
