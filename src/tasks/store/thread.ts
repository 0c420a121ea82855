/** The program of the thread that a store on SQLite lives in: it runs what `threaded-store.ts` asks for. */
import { workerData } from 'node:worker_threads'
import { type OperationRunner, serveThread } from '../../store/thread-server.ts'
import type { Task } from '../model/task.ts'
import { PAGE_SIZE } from './find-tasks.ts'
import type { StoreOperation } from './operations.ts'
import { openSqliteStore } from './sqlite-store.ts'
import type { Store } from './store.ts'
import { ADDED_EVENT, type StoreThreadData } from './store-thread-data.ts'

type OpenTaskList = AsyncGenerator<Task, void, undefined>

async function openStoreOfThread(notify: (event: string) => void): Promise<OperationRunner> {
  const { path, options } = workerData as StoreThreadData
  const store = await openSqliteStore(path, options)
  const openLists = new Map<number, OpenTaskList>()
  let lastList = 0
  let isListening = false
  return async (operation, args) => {
    switch (operation) {
      case 'list':
        openLists.set(++lastList, store.list(...(args as Parameters<Store['list']>)))
        return lastList
      case 'page':
        return readPage(openLists.get(args[0] as number))
      case 'endList':
        await openLists.get(args[0] as number)?.return()
        return openLists.delete(args[0] as number)
      case 'listen':
        if (!isListening) store.onAdded(() => notify(ADDED_EVENT))
        isListening = true
        return undefined
      default:
        return (
          store[operation as StoreOperation | 'close'] as (
            ...args: readonly unknown[]
          ) => Promise<unknown>
        )(...args)
    }
  }
}

async function readPage(list: OpenTaskList | undefined): Promise<Task[]> {
  const page: Task[] = []
  while (list && page.length < PAGE_SIZE) {
    const { value, done } = await list.next()
    if (done) break
    page.push(value)
  }
  return page
}

void serveThread(openStoreOfThread)
