/**
 * A store on SQLite, in a thread of its own. SQLite works while its caller waits: in the program's own thread every claim,
 * every list of a large store and every sync of the disk would hold up the requests that the program serves meanwhile.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { compiledPath } from '../../core/paths.ts'
import type { Task } from '../model/task.ts'
import type { SqliteStoreOptions } from './sqlite-store.ts'
import type { Store } from './store.ts'
import {
  restoreError,
  type StoreOperation,
  type StoreThreadData,
  type StoreThreadRequest,
  type StoreThreadResponse,
} from './thread-messages.ts'

/** Each a message there and one back. */
const STORE_OPERATIONS: Readonly<Record<StoreOperation, true>> = {
  add: true,
  claim: true,
  confirm: true,
  complete: true,
  release: true,
  adopt: true,
  otherBatches: true,
  takeCancelled: true,
  revert: true,
  cancel: true,
  delete: true,
  update: true,
  get: true,
  find: true,
  count: true,
  counts: true,
  tagKeys: true,
  tagValues: true,
  groups: true,
  currentGroup: true,
  groupTurn: true,
  remaining: true,
  progress: true,
  pressure: true,
  numRefused: true,
  registerServer: true,
  heartbeat: true,
  unregisterServer: true,
  recover: true,
  servers: true,
  connectClient: true,
  disconnectClient: true,
  clients: true,
  rotate: true,
  vacuum: true,
  backup: true,
  truncate: true,
  statement: true,
}

export async function openThreadedStore(path: string, options: SqliteStoreOptions): Promise<Store> {
  const thread = new StoreThread({ path, options })
  await thread.opened
  const asked = Object.keys(STORE_OPERATIONS).map((name) => [
    name,
    (...given: unknown[]) => thread.call(name as StoreOperation, given),
  ])
  const close = (): Promise<void> => thread.close()
  return {
    ...(Object.fromEntries(asked) as Pick<Store, StoreOperation>),
    name: path,
    kind: 'sqlite',
    list: (...given) => listThroughThread(thread, given),
    onAdded: (listener) => thread.listen(listener),
    close,
    [Symbol.asyncDispose]: close,
  }
}

async function* listThroughThread(
  thread: StoreThread,
  given: Parameters<Store['list']>,
): AsyncGenerator<Task, void, undefined> {
  const id = await thread.call('list', given)
  try {
    for (;;) {
      const page = (await thread.call('page', [id])) as Task[]
      if (page.length === 0) return
      yield* page
    }
  } finally {
    // A store that is closed has no lists.
    await thread.call('endList', [id]).catch(() => undefined)
  }
}

interface PendingCall {
  resolve(value: unknown): void
  reject(error: Error): void
}

class StoreThread {
  /** Rejects with why the store cannot be opened. */
  readonly opened: Promise<unknown>
  readonly #worker: Worker
  readonly #pending = new Map<number, PendingCall>()
  readonly #listeners = new Set<() => void>()
  #isListening = false
  #lastId = 0
  #endReason: ManyhostError | undefined
  #closing: Promise<void> | undefined

  constructor(workerData: StoreThreadData) {
    // Flags of this process, such as --cpu-prof, are not the thread's.
    const options = { workerData, execArgv: [], name: 'manyhost store' }
    this.#worker = new Worker(compiledPath('tasks/store/thread.js'), options)
    this.#worker.on('message', (answer: StoreThreadResponse) => this.#handleResponse(answer))
    this.#worker.on('error', (error) =>
      this.#failAll(storeError(`the thread of the store: ${describeError(error)}`)),
    )
    this.#worker.on('exit', () => this.#failAll(storeError('the thread of the store has ended')))
    this.opened = this.#awaitResponse(0)
  }

  call(name: StoreThreadRequest['operation'], given: readonly unknown[]): Promise<unknown> {
    if (this.#endReason) return Promise.reject(this.#endReason)
    const id = ++this.#lastId
    try {
      this.#worker.postMessage({ id, operation: name, args: given } satisfies StoreThreadRequest)
    } catch (error) {
      const text = `${name}: a value that no store can keep: ${describeError(error)}`
      return Promise.reject(new ManyhostError('MANYHOST_INVALID_OPTION', text))
    }
    return this.#awaitResponse(id)
  }

  listen(listener: () => void): () => void {
    // The same function may be given twice, and be taken back once.
    const own = (): void => listener()
    this.#listeners.add(own)
    if (!this.#isListening) {
      this.#isListening = true
      // Whoever is closed tells nothing.
      this.call('listen', []).catch(() => undefined)
    }
    return () => this.#listeners.delete(own)
  }

  /** What was asked before is answered before. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    if (this.#endReason) return
    const exited = once(this.#worker, 'exit')
    const closed = this.call('close', [])
    this.#endReason = storeError('the store is closed')
    this.#listeners.clear()
    await closed
    this.#worker.ref()
    await exited
  }

  #awaitResponse(id: number): Promise<unknown> {
    // The process lives for as long as an answer is awaited, and not for an open store.
    if (this.#pending.size === 0) this.#worker.ref()
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject }))
  }

  #handleResponse(answer: StoreThreadResponse): void {
    if (answer === 'added') {
      for (const listener of this.#listeners) listener()
      return
    }
    const waiting = this.#pending.get(answer.id)
    this.#pending.delete(answer.id)
    if (this.#pending.size === 0) this.#worker.unref()
    if ('failure' in answer) waiting?.reject(restoreError(answer.failure))
    else waiting?.resolve(answer.value)
  }

  #failAll(why: ManyhostError): void {
    this.#endReason ??= why
    for (const { reject } of this.#pending.values()) reject(why)
    this.#pending.clear()
  }
}

function storeError(why: string): ManyhostError {
  return new ManyhostError('MANYHOST_STORE_FAILED', why)
}
