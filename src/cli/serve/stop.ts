/** The end of `serve`: the first signal drains, the second one does not wait. */

import { sleep } from '../../core/time.ts'
import type { SessionCore } from '../../session/session.ts'
import { EXIT } from '../exit.ts'
import { replaceSignalListeners } from '../interrupt.ts'
import type { ServeLog } from './log.ts'
import type { OpenServers } from './open-servers.ts'
import type { Reloader } from './reload.ts'

export interface RunningServe {
  readonly session: SessionCore
  readonly servers: OpenServers
  readonly reloader: Reloader
  readonly log: ServeLog
}

/** How long instances may take to end when nobody waits any more: their guard ends what is left. */
const FORCED_CLOSE_TIMEOUT_MS = 2_000

const EXIT_CODES = { SIGINT: EXIT.interrupted.number, SIGTERM: EXIT.terminated.number } as const

/** Resolves with the exit code when all has ended. */
export function stopOnSignals(running: RunningServe): Promise<number> {
  return new Promise((resolve, reject) => {
    let stopping = false
    for (const name of ['SIGINT', 'SIGTERM'] as const) {
      replaceSignalListeners(name, () => {
        const ended = stopping ? forceStop(running, EXIT_CODES[name]) : drainServe(running, name)
        stopping = true
        ended.then(resolve, reject)
      })
    }
  })
}

async function drainServe(
  { session, servers, reloader, log }: RunningServe,
  name: string,
): Promise<number> {
  const busy = session.clusters.reduce(
    (sum, { inFlight, requestQueue }) => sum + inFlight + requestQueue.size,
    0,
  )
  log.logger.info(
    { signal: name, requests: busy },
    `${name}: draining, ${busy} requests are under way`,
  )
  servers.isClosing = true
  reloader.close()
  await Promise.all(servers.gateways.map((gateway) => gateway.close()))
  await session.close()
  await servers.close()
  log.logger.info('stopped')
  return EXIT.ok.number
}

async function forceStop({ session, log }: RunningServe, code: number): Promise<number> {
  log.logger.warn('a second signal: not waiting')
  await Promise.race([session.close({ force: true }), sleep(FORCED_CLOSE_TIMEOUT_MS)])
  return code
}
