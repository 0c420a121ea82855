/**
 * An instance of the cluster: a place that a worker of the service holds. Places are all alike. The requests on them stand
 * in one line with all other jobs of the service, and whoever asks first takes the oldest: a worker that asks every
 * 3 s then delays nobody while another one is at the door. A claim trades places, so that a request is on the
 * place of the worker that has it, and ends with that worker and no other.
 */
import type { Dispatcher } from 'undici'
import { ManyhostError } from '../../src/core/errors.ts'
import type { Exit, Running, StartSpec } from '../../src/core/provider.ts'
import { StopDeadline } from '../shared/stop-deadline.ts'
import type { WorkerRecord } from './open-job.ts'
import type { PulledRequest } from './pulled-request.ts'

export class PullInstance implements Running {
  readonly id: string
  readonly exited: Promise<Exit>
  readonly requests = new Set<PulledRequest>()
  dispatcher!: Dispatcher
  worker: WorkerRecord | undefined
  readonly #spec: StartSpec
  readonly #onGone: (place: PullInstance) => void
  readonly #stopDeadline = new StopDeadline(() =>
    this.#end({ reason: 'stopped', detail: 'stopped' }),
  )
  #setExited!: (exit: Exit) => void
  #state: 'open' | 'stopping' | 'gone' = 'open'

  constructor(spec: StartSpec, seat: WorkerRecord, onGone: (place: PullInstance) => void) {
    this.id = spec.id
    this.worker = seat
    seat.instance = this
    this.#spec = spec
    this.#onGone = onGone
    this.exited = new Promise((resolve) => {
      this.#setExited = resolve
    })
  }

  /** Whose it is at the moment. */
  get address(): string {
    return `worker ${this.worker?.name ?? 'gone'}`
  }

  get isOpen(): boolean {
    return this.#state === 'open'
  }

  async accepts(): Promise<void> {
    if (this.#state !== 'gone') return
    throw this.#createEndedError('its worker is gone')
  }

  /** Its worker, in the eyes of the hub, is no more. */
  onWorkerLost(detail: string): void {
    this.#end({ reason: 'lost', detail })
  }

  /** Requests that are on it may end within `grace`. */
  async stop(grace: number): Promise<void> {
    if (this.#state === 'open') this.#state = 'stopping'
    this.#stopDeadline.shorten(grace)
    this.#endIfIdle()
    await this.exited
  }

  addRequest(call: PulledRequest): void {
    this.requests.add(call)
  }

  removeRequest(call: PulledRequest): void {
    this.requests.delete(call)
    this.#endIfIdle()
  }

  #endIfIdle(): void {
    if (this.#state !== 'stopping' || this.requests.size > 0) return
    this.#end({ reason: 'stopped', detail: 'stopped' })
  }

  #end(exit: Exit): void {
    if (this.#state === 'gone') return
    this.#state = 'gone'
    this.#stopDeadline.cancel()
    const error = this.#createEndedError(exit.detail)
    for (const call of [...this.requests]) call.fail(error)
    this.#onGone(this)
    this.#setExited(exit)
  }

  #createEndedError(why: string): ManyhostError {
    const { id, service } = this.#spec
    return new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${id} ended: ${why}`, { service })
  }
}

/** Gives the worker that has just taken a request of `place` that very place, for its own one. */
export function swapInstances(request: PulledRequest, worker: WorkerRecord): void {
  const { instance: place } = request
  const { worker: other } = place
  if (other === worker || !other || !place.isOpen) return
  const own = worker.instance
  const isBusy = (one: PullInstance | undefined): boolean =>
    [...(one?.requests ?? [])].some((call) => call !== request && call.isRunning)
  // Whoever has more than one at a time cannot have them all on one place: they stay where they are.
  if (isBusy(place) || isBusy(own)) return
  place.worker = worker
  worker.instance = place
  other.instance = own
  if (own) own.worker = other
}
