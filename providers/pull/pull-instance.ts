/**
 * An instance of the cluster. Each one stands for a worker of the service, but the requests on all instances wait in one
 * queue, and the worker that polls first takes the oldest one, whichever instance it is on. So a worker that polls every
 * 3 s delays no request while another worker is waiting for one.
 *
 * A request must end with the worker that has claimed it, and with no other. So a claim swaps the workers of two
 * instances. Here worker B claims request 1, which the cluster has given to instance I:
 *
 *     before                                      after
 *     instance I  [ request 1 ]  worker A         instance I  [ request 1 ]  worker B
 *     instance J  [ request 2 ]  worker B         instance J  [ request 2 ]  worker A
 *
 * Request 2 still waits in the queue, so it loses nothing. A worker that is no instance yet swaps as well: then A is none
 * afterwards. There is no swap if another request runs on one of the two: a worker with several requests at a time cannot
 * have all of them on one instance.
 */
import type { Dispatcher } from 'undici'
import { deferred } from '../../src/core/deferred.ts'
import { ManyhostError } from '../../src/core/errors.ts'
import type { Exit, Running, StartSpec } from '../../src/core/provider.ts'
import { StopDeadline } from '../shared/stop-deadline.ts'
import type { WorkerInstance, WorkerRecord } from './open-job.ts'
import type { PulledRequest } from './pulled-request.ts'

/**
 * It does not stand on `InstanceLifecycle`: it has no output, no startup function and no connections, and its requests
 * must fail in the same turn in which its worker is lost, before another request finds that worker.
 */
export class PullInstance implements Running, WorkerInstance {
  readonly id: string
  readonly requests = new Set<PulledRequest>()
  dispatcher!: Dispatcher
  worker: WorkerRecord | undefined
  readonly #spec: StartSpec
  readonly #onGone: (instance: PullInstance) => void
  readonly #exited = deferred<Exit>()
  readonly #stopDeadline = new StopDeadline(() => this.#end(STOPPED))
  #state: 'open' | 'stopping' | 'gone' = 'open'

  constructor(spec: StartSpec, worker: WorkerRecord, onGone: (instance: PullInstance) => void) {
    this.id = spec.id
    this.worker = worker
    worker.instance = this
    this.#spec = spec
    this.#onGone = onGone
  }

  get exited(): Promise<Exit> {
    return this.#exited.promise
  }

  /** Names the worker that the instance stands for at the moment. */
  get address(): string {
    return `worker ${this.worker?.name ?? 'gone'}`
  }

  get isOpen(): boolean {
    return this.#state === 'open'
  }

  async accepts(): Promise<void> {
    if (this.#state === 'gone') throw this.#createEndedError('its worker is gone')
  }

  onWorkerLost(detail: string): void {
    this.#end({ reason: 'lost', detail })
  }

  /** Requests on this instance may end within `grace` ms. */
  async stop(grace: number): Promise<void> {
    if (this.#state === 'open') this.#state = 'stopping'
    this.#stopDeadline.shorten(grace)
    this.#endIfIdle()
    await this.exited
  }

  addRequest(request: PulledRequest): void {
    this.requests.add(request)
  }

  removeRequest(request: PulledRequest): void {
    this.requests.delete(request)
    this.#endIfIdle()
  }

  #endIfIdle(): void {
    if (this.#state === 'stopping' && this.requests.size === 0) this.#end(STOPPED)
  }

  #end(exit: Exit): void {
    if (this.#state === 'gone') return
    this.#state = 'gone'
    this.#stopDeadline.cancel()
    const error = this.#createEndedError(exit.detail)
    for (const request of [...this.requests]) request.fail(error)
    this.#onGone(this)
    this.#exited.resolve(exit)
  }

  #createEndedError(why: string): ManyhostError {
    const { id, service } = this.#spec
    return new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${id} ended: ${why}`, { service })
  }
}

const STOPPED: Exit = { reason: 'stopped', detail: 'stopped' }

/** Moves a request to the worker that has just claimed it, by a swap of instances: see the top of this file. */
export function swapInstances(
  request: PulledRequest,
  instance: WorkerInstance,
  worker: WorkerRecord,
): void {
  const { worker: other } = instance
  if (other === worker || !other || !instance.isOpen) return
  const own = worker.instance
  const isBusy = (one: WorkerInstance | undefined): boolean =>
    [...(one?.requests ?? [])].some((running) => running !== request && running.isRunning)
  if (isBusy(instance) || isBusy(own)) return
  instance.worker = worker
  worker.instance = instance
  other.instance = own
  if (own) own.worker = other
}
