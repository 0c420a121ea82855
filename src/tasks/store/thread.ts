/** The program of a thread that a store on SQLite lives in: it answers what `threaded.ts` asks. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import type { Task } from '../task.ts'
import { type Answer, failureOf, type Question, type ThreadData } from './crossing.ts'
import { openFile } from './file.ts'
import { PAGE } from './look.ts'
import type { EngineStore } from './store.ts'

type List = AsyncGenerator<Task, void, undefined>

const port = parentPort as MessagePort
const lists = new Map<number, List>()

async function begin(): Promise<void> {
  const { path, options } = workerData as ThreadData
  await answer(0, async () => {
    const store = await openFile(path, options)
    port.on('message', async (question: Question) => {
      await answer(question.id, () => perform(store, question))
      if (question.name === 'close') port.close()
    })
  })
}

async function answer(id: number, perform: () => Promise<unknown>): Promise<void> {
  try {
    say({ id, value: await perform() })
  } catch (thrown) {
    say({ id, failure: failureOf(thrown) })
  }
}

async function perform(store: EngineStore, { id, name, given }: Question): Promise<unknown> {
  switch (name) {
    case 'list':
      lists.set(id, store.list(...(given as Parameters<EngineStore['list']>)))
      return id
    case 'page':
      return pageOf(lists.get(given[0] as number))
    case 'endList':
      await lists.get(given[0] as number)?.return()
      return lists.delete(given[0] as number)
    case 'listen':
      store.onAdded(() => say('added'))
      return undefined
    default:
      return (store[name] as (...given: readonly unknown[]) => Promise<unknown>)(...given)
  }
}

async function pageOf(list: List | undefined): Promise<Task[]> {
  const page: Task[] = []
  while (list && page.length < PAGE) {
    const { value, done } = await list.next()
    if (done) break
    page.push(value)
  }
  return page
}

function say(what: Answer): void {
  port.postMessage(what)
}

void begin()
