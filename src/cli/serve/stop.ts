/** The end of `serve`: the first signal drains, the second one does not wait. */

import { sleep } from '../../core/time.ts'
import type { Session } from '../../session/session.ts'
import { EXIT } from '../exit.ts'
import { takeSignal } from '../interrupt.ts'
import type { Doors } from '../serve.ts'
import type { Log } from './log.ts'
import type { Reloader } from './reload.ts'

export interface Running {
  readonly session: Session
  readonly doors: Doors
  readonly reloader: Reloader
  readonly log: Log
}

/** How long instances may take to end when nobody waits any more: their guard ends what is left. */
const HASTE = 2_000

const CODES = { SIGINT: EXIT.interrupted.number, SIGTERM: EXIT.terminated.number } as const

/** Resolves with the exit code when all has ended. */
export function stopOnSignals(running: Running): Promise<number> {
  return new Promise((resolve, reject) => {
    let stopping = false
    for (const name of ['SIGINT', 'SIGTERM'] as const) {
      takeSignal(name, () => {
        const ended = stopping ? force(running, CODES[name]) : drain(running, name)
        stopping = true
        ended.then(resolve, reject)
      })
    }
  })
}

async function drain({ session, doors, reloader, log }: Running, name: string): Promise<number> {
  const busy = session.clusters.reduce(
    (sum, { inFlight, requestQueue }) => sum + inFlight + requestQueue.size,
    0,
  )
  log.logger.info(
    { signal: name, requests: busy },
    `${name}: draining, ${busy} requests are under way`,
  )
  doors.closing = true
  reloader.close()
  await Promise.all(doors.gateways.map((gateway) => gateway.close()))
  await session.close()
  await doors.close()
  log.logger.info('stopped')
  return EXIT.ok.number
}

async function force({ session, log }: Running, code: number): Promise<number> {
  log.logger.warn('a second signal: not waiting')
  await Promise.race([session.close({ force: true }), sleep(HASTE)])
  return code
}
