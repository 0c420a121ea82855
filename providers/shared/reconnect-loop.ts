/** A stream of events from an engine, connected again whenever it breaks. */
import { exponentialDelay } from '../../src/core/backoff.ts'
import { sleep } from '../../src/core/time.ts'

/** The pause between two tries to connect, in ms. */
const RECONNECT_PAUSE = { min: 20, max: 500 }

/**
 * Calls `connect` again and again until `isClosed` answers true.
 * @param connect resolves or rejects when the connection has ended; it calls `onConnected` when it is made, so that the
 *   next pause is the shortest one again
 */
export async function reconnectLoop(
  connect: (onConnected: () => void) => Promise<void>,
  isClosed: () => boolean,
): Promise<void> {
  let failures = 0
  while (!isClosed()) {
    await connect(() => {
      failures = 0
    }).catch(() => {
      // A caller that needs the engine learns of the failure by its own call.
    })
    if (!isClosed()) await sleep(exponentialDelay(failures++, RECONNECT_PAUSE))
  }
}
