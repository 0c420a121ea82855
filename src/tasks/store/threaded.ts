/**
 * A store on SQLite, in a thread of its own. SQLite works while its caller waits: in the program's own thread every claim,
 * every list of a large store and every sync of the disk would hold up the requests that the program serves meanwhile.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { describe, ManyhostError } from '../../core/errors.ts'
import { compiled } from '../../core/paths.ts'
import type { Task } from '../task.ts'
import { type Answer, type Asked, errorOf, type Question, type ThreadData } from './crossing.ts'
import type { FileOptions } from './file.ts'
import type { Store } from './store.ts'

/** Each a message there and one back. */
const ASKED: Readonly<Record<Asked, true>> = {
  add: true,
  claim: true,
  confirm: true,
  complete: true,
  release: true,
  adopt: true,
  leftBeside: true,
  noteCancelled: true,
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
  turn: true,
  remaining: true,
  progress: true,
  pressure: true,
  refusals: true,
  join: true,
  beat: true,
  leave: true,
  recover: true,
  servers: true,
  connect: true,
  disconnect: true,
  clients: true,
  rotate: true,
  vacuum: true,
  backup: true,
  truncate: true,
  statement: true,
}

export async function openThreaded(path: string, options: FileOptions): Promise<Store> {
  const thread = new Thread({ path, options })
  await thread.opened
  const asked = Object.keys(ASKED).map((name) => [
    name,
    (...given: unknown[]) => thread.ask(name as Asked, given),
  ])
  const close = (): Promise<void> => thread.close()
  return {
    ...(Object.fromEntries(asked) as Pick<Store, Asked>),
    name: path,
    kind: 'sqlite',
    list: (...given) => list(thread, given),
    onAdded: (listener) => thread.listen(listener),
    close,
    [Symbol.asyncDispose]: close,
  }
}

async function* list(
  thread: Thread,
  given: Parameters<Store['list']>,
): AsyncGenerator<Task, void, undefined> {
  const id = await thread.ask('list', given)
  try {
    for (;;) {
      const page = (await thread.ask('page', [id])) as Task[]
      if (page.length === 0) return
      yield* page
    }
  } finally {
    // A store that is closed has no lists.
    await thread.ask('endList', [id]).catch(() => undefined)
  }
}

interface Waiting {
  resolve(value: unknown): void
  reject(error: Error): void
}

class Thread {
  /** Rejects with why the store cannot be opened. */
  readonly opened: Promise<unknown>
  readonly #worker: Worker
  readonly #waiting = new Map<number, Waiting>()
  readonly #listeners = new Set<() => void>()
  #isListening = false
  #count = 0
  #refusal: ManyhostError | undefined
  #closing: Promise<void> | undefined

  constructor(workerData: ThreadData) {
    // Flags of this process, such as --cpu-prof, are not the thread's.
    const options = { workerData, execArgv: [], name: 'manyhost store' }
    this.#worker = new Worker(compiled('tasks/store/thread.js'), options)
    this.#worker.on('message', (answer: Answer) => this.#answered(answer))
    this.#worker.on('error', (error) =>
      this.#end(failed(`the thread of the store: ${describe(error)}`)),
    )
    this.#worker.on('exit', () => this.#end(failed('the thread of the store has ended')))
    this.opened = this.#wait(0)
  }

  ask(name: Question['name'], given: readonly unknown[]): Promise<unknown> {
    if (this.#refusal) return Promise.reject(this.#refusal)
    const id = ++this.#count
    try {
      this.#worker.postMessage({ id, name, given } satisfies Question)
    } catch (error) {
      const text = `${name}: a value that no store can keep: ${describe(error)}`
      return Promise.reject(new ManyhostError('MANYHOST_INVALID_OPTION', text))
    }
    return this.#wait(id)
  }

  listen(listener: () => void): () => void {
    // The same function may be given twice, and be taken back once.
    const own = (): void => listener()
    this.#listeners.add(own)
    if (!this.#isListening) {
      this.#isListening = true
      // Whoever is closed tells nothing.
      this.ask('listen', []).catch(() => undefined)
    }
    return () => this.#listeners.delete(own)
  }

  /** What was asked before is answered before. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    if (this.#refusal) return
    const exited = once(this.#worker, 'exit')
    const closed = this.ask('close', [])
    this.#refusal = failed('the store is closed')
    this.#listeners.clear()
    await closed
    this.#worker.ref()
    await exited
  }

  #wait(id: number): Promise<unknown> {
    // The process lives for as long as an answer is awaited, and not for an open store.
    if (this.#waiting.size === 0) this.#worker.ref()
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }))
  }

  #answered(answer: Answer): void {
    if (answer === 'added') {
      for (const listener of this.#listeners) listener()
      return
    }
    const waiting = this.#waiting.get(answer.id)
    this.#waiting.delete(answer.id)
    if (this.#waiting.size === 0) this.#worker.unref()
    if ('failure' in answer) waiting?.reject(errorOf(answer.failure))
    else waiting?.resolve(answer.value)
  }

  #end(why: ManyhostError): void {
    this.#refusal ??= why
    for (const { reject } of this.#waiting.values()) reject(why)
    this.#waiting.clear()
  }
}

function failed(why: string): ManyhostError {
  return new ManyhostError('MANYHOST_STORE_FAILED', why)
}
