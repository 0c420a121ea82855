/**
 * The side of the program: a store in a thread of its own. libsql works synchronously, so in the program's own thread every
 * statement would hold up the requests that the program serves meanwhile.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { type Deferred, deferred } from '../core/deferred.ts'
import { describeError, ManyhostError } from '../core/errors.ts'
import { restoreError, type ThreadRequest, type ThreadResponse } from './thread-messages.ts'

export interface ThreadClientOptions {
  /** Path of the program of the thread, which calls `serveThread`. */
  readonly program: string
  /** What the program finds in its `workerData`. */
  readonly workerData: unknown
  /** For debuggers and profilers. */
  readonly name: string
  onEvent(event: string): void
}

export class ThreadClient {
  /** Rejects with the reason when the store cannot be opened. */
  readonly opened: Promise<unknown>
  readonly #worker: Worker
  readonly #onEvent: (event: string) => void
  /** Calls without an answer yet, by their id. */
  readonly #pending = new Map<number, Deferred<unknown>>()
  #lastId = 0
  /** Why every further call fails. */
  #endReason: ManyhostError | undefined
  #closing: Promise<void> | undefined

  constructor({ program, workerData, name, onEvent }: ThreadClientOptions) {
    this.#onEvent = onEvent
    // Flags of this process, such as --cpu-prof, are not meant for the thread.
    this.#worker = new Worker(program, { workerData, execArgv: [], name })
    this.#worker.on('message', (response: ThreadResponse) => this.#handleResponse(response))
    this.#worker.on('error', (error) =>
      this.#failAll(storeError(`the thread of the store failed: ${describeError(error)}`)),
    )
    this.#worker.on('exit', () => this.#failAll(storeError('the thread of the store has ended')))
    this.opened = this.#awaitResponse(0)
  }

  call(operation: string, args: readonly unknown[]): Promise<unknown> {
    if (this.#endReason) return Promise.reject(this.#endReason)
    const id = ++this.#lastId
    try {
      this.#worker.postMessage({ id, operation, args } satisfies ThreadRequest)
    } catch (error) {
      const text = `${operation}: a value that no store can keep: ${describeError(error)}`
      return Promise.reject(new ManyhostError('MANYHOST_INVALID_OPTION', text))
    }
    return this.#awaitResponse(id)
  }

  /** Calls that were made before are answered first. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    if (this.#endReason) return
    const exited = once(this.#worker, 'exit')
    const closed = this.call('close', [])
    this.#endReason = storeError('the store is closed')
    await closed
    this.#worker.ref()
    await exited
  }

  #awaitResponse(id: number): Promise<unknown> {
    // A call without an answer keeps the process alive; an open store does not.
    if (this.#pending.size === 0) this.#worker.ref()
    const response = deferred<unknown>()
    this.#pending.set(id, response)
    return response.promise
  }

  #handleResponse(response: ThreadResponse): void {
    if (typeof response === 'string') {
      this.#onEvent(response)
      return
    }
    const pending = this.#pending.get(response.id)
    this.#pending.delete(response.id)
    if (this.#pending.size === 0) this.#worker.unref()
    if ('failure' in response) pending?.reject(restoreError(response.failure))
    else pending?.resolve(response.value)
  }

  #failAll(reason: ManyhostError): void {
    this.#endReason ??= reason
    for (const { reject } of this.#pending.values()) reject(reason)
    this.#pending.clear()
  }
}

function storeError(reason: string): ManyhostError {
  return new ManyhostError('MANYHOST_STORE_FAILED', reason)
}
