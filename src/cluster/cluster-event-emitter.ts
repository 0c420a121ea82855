/** Emits the events of a cluster. An event without a listener is not even built. */

import type { ManyhostError } from '../core/errors.ts'
import type {
  ClusterEvent,
  Emitter,
  InstanceState,
  Outcome,
  SessionEvents,
} from '../core/events.ts'
import { now, wallClock } from '../core/time.ts'
import type { Attempt } from '../dispatch/attempt.ts'
import type { Exchange } from '../dispatch/exchange.ts'
import type { Instance } from './instance.ts'

export class ClusterEventEmitter {
  readonly #service: string
  readonly #emitter: Emitter<SessionEvents>

  constructor(service: string, emitter: Emitter<SessionEvents>) {
    this.#service = service
    this.#emitter = emitter
  }

  emitError(error: ManyhostError): void {
    this.#emitter.emit('error', error)
  }

  emitCluster(change: ClusterEvent['change'], size: number, reason?: string): void {
    this.#emitter.emit('cluster', {
      service: this.#service,
      change,
      size,
      ...(reason !== undefined && { reason }),
      at: wallClock(),
    })
  }

  emitInstance(instance: Instance, from: InstanceState | undefined, reason: string): void {
    if (!this.#emitter.hasListeners('instance')) return
    this.#emitter.emit('instance', {
      service: this.#service,
      instance: instance.id,
      state: instance.state,
      ...(from && { from }),
      ...(reason && { reason }),
      ...(instance.state === 'failed' && { output: instance.output.lastLines(20) }),
      provider: instance.provider,
      at: wallClock(),
    })
  }

  emitResend(exchange: Exchange, attempt: Attempt, reason: string): void {
    if (!this.#emitter.hasListeners('resend')) return
    this.#emitter.emit('resend', {
      service: this.#service,
      id: exchange.request.id,
      attempt: attempt.number,
      instance: attempt.target?.id ?? '',
      reason,
      at: wallClock(),
    })
  }

  emitRequest(exchange: Exchange, outcome: Outcome, status: number): void {
    if (!this.#emitter.hasListeners('request')) return
    this.#emitter.emit('request', {
      service: this.#service,
      id: exchange.request.id,
      method: exchange.request.method,
      path: exchange.request.path,
      outcome,
      status,
      duration: now() - exchange.startedAt,
      attempts: exchange.attempts,
      at: wallClock(),
    })
  }
}
