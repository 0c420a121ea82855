/**
 * An instance of the cluster: a place that a worker of the service holds. Places are all alike. The requests on them stand
 * in one line with all other jobs of the service, and whoever asks first takes the oldest: a worker that asks every
 * 3 s then delays nobody while another one is at the door. A claim trades places, so that a request is on the
 * place of the worker that has it, and ends with that worker and no other.
 */
import type { Dispatcher } from 'undici'
import { ManyhostError } from '../../src/core/errors.ts'
import type { Exit, Running, StartSpec } from '../../src/core/provider.ts'
import { Grace } from '../grace.ts'
import type { Call } from './call.ts'
import type { Seat } from './job.ts'

export class Place implements Running {
  readonly id: string
  readonly exited: Promise<Exit>
  readonly calls = new Set<Call>()
  dispatcher!: Dispatcher
  seat: Seat | undefined
  readonly #spec: StartSpec
  readonly #onGone: (place: Place) => void
  readonly #grace = new Grace(() => this.#end({ reason: 'stopped', detail: 'stopped' }))
  #exit!: (exit: Exit) => void
  #state: 'open' | 'stopping' | 'gone' = 'open'

  constructor(spec: StartSpec, seat: Seat, onGone: (place: Place) => void) {
    this.id = spec.id
    this.seat = seat
    seat.place = this
    this.#spec = spec
    this.#onGone = onGone
    this.exited = new Promise((resolve) => {
      this.#exit = resolve
    })
  }

  /** Whose it is at the moment. */
  get address(): string {
    return `worker ${this.seat?.name ?? 'gone'}`
  }

  get isOpen(): boolean {
    return this.#state === 'open'
  }

  async accepts(): Promise<void> {
    if (this.#state !== 'gone') return
    throw this.#error('its worker is gone')
  }

  /** Its worker, in the eyes of the hub, is no more. */
  lost(detail: string): void {
    this.#end({ reason: 'lost', detail })
  }

  /** Requests that are on it may end within `grace`. */
  async stop(grace: number): Promise<void> {
    if (this.#state === 'open') this.#state = 'stopping'
    this.#grace.shorten(grace)
    this.#wind()
    await this.exited
  }

  enter(call: Call): void {
    this.calls.add(call)
  }

  leave(call: Call): void {
    this.calls.delete(call)
    this.#wind()
  }

  #wind(): void {
    if (this.#state !== 'stopping' || this.calls.size > 0) return
    this.#end({ reason: 'stopped', detail: 'stopped' })
  }

  #end(exit: Exit): void {
    if (this.#state === 'gone') return
    this.#state = 'gone'
    this.#grace.cancel()
    const error = this.#error(exit.detail)
    for (const call of [...this.calls]) call.fail(error)
    this.#onGone(this)
    this.#exit(exit)
  }

  #error(why: string): ManyhostError {
    const { id, service } = this.#spec
    return new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${id} ended: ${why}`, { service })
  }
}

/** Gives the worker that has just taken a request of `place` that very place, for its own one. */
export function trade(taken: Call, seat: Seat): void {
  const { place } = taken
  const { seat: other } = place
  if (other === seat || !other || !place.isOpen) return
  const own = seat.place
  const isBusy = (one: Place | undefined): boolean =>
    [...(one?.calls ?? [])].some((call) => call !== taken && call.isRunning)
  // Whoever has more than one at a time cannot have them all on one place: they stay where they are.
  if (isBusy(place) || isBusy(own)) return
  place.seat = seat
  seat.place = place
  other.place = own
  if (own) own.seat = other
}
