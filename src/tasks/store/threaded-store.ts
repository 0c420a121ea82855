/**
 * A store on SQLite, in a thread of its own. SQLite works while its caller waits: in the program's own thread every claim,
 * every list of a large store and every sync of the disk would hold up the requests that the program serves meanwhile.
 *
 * Each operation is a message to the thread and one back. A list is opened (`list`), read until a page is empty (`page`),
 * and left (`endList`).
 */
import { compiledPath } from '../../core/paths.ts'
import { ThreadClient } from '../../store/thread-client.ts'
import type { Task } from '../model/task.ts'
import { AddedListeners } from './added-listeners.ts'
import { bindOperations } from './operations.ts'
import type { Store } from './store.ts'
import { ADDED_EVENT, type StoreThreadData } from './store-thread-data.ts'

export async function openThreadedStore({ path, options }: StoreThreadData): Promise<Store> {
  const thread = new ThreadClient({
    program: compiledPath('tasks/store/thread.js'),
    workerData: { path, options } satisfies StoreThreadData,
    name: 'manyhost store',
    onEvent: (event) => {
      if (event === ADDED_EVENT) listeners.notify()
    },
  })
  const listeners = new AddedListeners(() => {
    // A thread that has ended has nothing to tell.
    thread.call('listen', []).catch(() => undefined)
    return () => {}
  })
  await thread.opened
  const close = (): Promise<void> => {
    listeners.close()
    return thread.close()
  }
  return {
    ...bindOperations(
      (name) =>
        (...args) =>
          thread.call(name, args),
    ),
    name: path,
    kind: 'sqlite',
    list: (...args) => listThroughThread(thread, args),
    onAdded: (listener) => listeners.add(listener),
    close,
    [Symbol.asyncDispose]: close,
  }
}

async function* listThroughThread(
  thread: ThreadClient,
  args: Parameters<Store['list']>,
): AsyncGenerator<Task, void, undefined> {
  const id = await thread.call('list', args)
  try {
    for (;;) {
      const page = (await thread.call('page', [id])) as Task[]
      if (page.length === 0) return
      yield* page
    }
  } finally {
    // A store that was closed meanwhile has no list to leave.
    await thread.call('endList', [id]).catch(() => undefined)
  }
}
