/** The program of a thread that a store on SQLite lives in: it answers what `threaded.ts` asks. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import type { Task } from '../model/task.ts'
import { PAGE_SIZE } from './find-tasks.ts'
import { openSqliteStore } from './sqlite-store.ts'
import type { DatabaseStore } from './store.ts'
import {
  type StoreThreadData,
  type StoreThreadRequest,
  type StoreThreadResponse,
  serializeFailure,
} from './thread-messages.ts'

type OpenTaskList = AsyncGenerator<Task, void, undefined>

const port = parentPort as MessagePort
const openLists = new Map<number, OpenTaskList>()

async function startStore(): Promise<void> {
  const { path, options } = workerData as StoreThreadData
  await respond(0, async () => {
    const store = await openSqliteStore(path, options)
    port.on('message', async (question: StoreThreadRequest) => {
      await respond(question.id, () => runOperation(store, question))
      if (question.operation === 'close') port.close()
    })
  })
}

async function respond(id: number, perform: () => Promise<unknown>): Promise<void> {
  try {
    postResponse({ id, value: await perform() })
  } catch (thrown) {
    postResponse({ id, failure: serializeFailure(thrown) })
  }
}

async function runOperation(
  store: DatabaseStore,
  { id, operation: name, args: given }: StoreThreadRequest,
): Promise<unknown> {
  switch (name) {
    case 'list':
      openLists.set(id, store.list(...(given as Parameters<DatabaseStore['list']>)))
      return id
    case 'page':
      return readPage(openLists.get(given[0] as number))
    case 'endList':
      await openLists.get(given[0] as number)?.return()
      return openLists.delete(given[0] as number)
    case 'listen':
      store.onAdded(() => postResponse('added'))
      return undefined
    default:
      return (store[name] as (...given: readonly unknown[]) => Promise<unknown>)(...given)
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

function postResponse(what: StoreThreadResponse): void {
  port.postMessage(what)
}

void startStore()
