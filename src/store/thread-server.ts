/** The side of the thread: opens a store, and runs the operations that a `ThreadClient` asks for. */
import { type MessagePort, parentPort } from 'node:worker_threads'
import { serializeFailure, type ThreadRequest, type ThreadResponse } from './thread-messages.ts'

/** Runs one operation of the store that was opened. */
export type OperationRunner = (operation: string, args: readonly unknown[]) => Promise<unknown>

/**
 * To be called once, in a thread. The thread ends after the operation `close`.
 * @param open opens the store; `notify` sends an event to the client
 */
export async function serveThread(
  open: (notify: (event: string) => void) => Promise<OperationRunner>,
): Promise<void> {
  const port = parentPort as MessagePort
  const post = (response: ThreadResponse): void => port.postMessage(response)
  const respond = async (id: number, perform: () => Promise<unknown>): Promise<void> => {
    try {
      post({ id, value: await perform() })
    } catch (thrown) {
      post({ id, failure: serializeFailure(thrown) })
    }
  }
  await respond(0, async () => {
    const run = await open(post)
    port.on('message', async ({ id, operation, args }: ThreadRequest) => {
      await respond(id, () => run(operation, args))
      if (operation === 'close') port.close()
    })
  })
}
