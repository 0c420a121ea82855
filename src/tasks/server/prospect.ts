/** What is left to be done, brought up to date for people and for scaling; and the runners that are wanted for it. */
import { every, now, type Timer } from '../../core/time.ts'
import { DynamicTasks, FixedTasks, type Work } from '../scaling.ts'
import type { Progress } from '../store/counts.ts'
import type { ClusterRunSettings } from './options.ts'
import type { TaskServer } from './server.ts'

/** How often it is asked for, in ms. */
const REFRESH = 500

export class Prospect {
  readonly #server: TaskServer
  readonly #timer: Timer
  readonly #offAdded: () => void
  #progress: Progress | undefined
  #isAsking = false

  constructor(server: TaskServer) {
    this.#server = server
    void this.#ask()
    this.#timer = every(REFRESH, () => void this.#ask())
    this.#offAdded = server.store.onAdded(() => {
      if (!this.#progress?.remaining) void this.#ask()
    })
  }

  /** Of all that the server works off. */
  get progress(): Progress | undefined {
    return this.#progress
  }

  close(): void {
    this.#timer.clear()
    this.#offAdded()
  }

  async #ask(): Promise<void> {
    if (this.#isAsking) return
    this.#isAsking = true
    try {
      const { store, attempts, batches } = this.#server
      this.#progress = await store.progress(attempts, batches)
    } catch {
      // What is wrong with the store is told by who needs it.
    } finally {
      this.#isAsking = false
    }
  }
}

type Settings = Pick<
  ClusterRunSettings,
  | 'autoscaling'
  | 'clientTimeout'
  | 'factor'
  | 'maxSize'
  | 'minSize'
  | 'period'
  | 'places'
  | 'runners'
>

/** What scaling reads of the server. */
type Busy = Pick<TaskServer, 'held' | 'state'>

/** What the session is to read as the size of the runners' cluster; undefined: as many as it started with. */
export function runnersWanted(
  settings: Settings,
  server: Busy,
  progress: () => Progress | undefined,
): (() => number) | undefined {
  const { autoscaling, clientTimeout, runners, factor, period, minSize, places } = settings
  if (autoscaling) {
    const maxSize = settings.maxSize ?? Math.max(runners, 1)
    const policy = autoscaling === 'fixed' ? FixedTasks : DynamicTasks
    const options = { initSize: runners, minSize, maxSize, factor, period, places }
    const size = new policy(() => workOf(server, progress()), options)
    return () => size.valueOf()
  }
  if (clientTimeout <= 0) return undefined
  let busyAt = now()
  return () => {
    if (server.held > 0 || (progress()?.remaining ?? 1) > 0) busyAt = now()
    return now() - busyAt >= clientTimeout ? 0 : runners
  }
}

function workOf(server: Busy, progress: Progress | undefined): Work {
  return {
    // Nobody has looked yet: as if there were something.
    remaining: Math.max(progress?.remaining ?? 1, server.held),
    running: server.held,
    rate: progress?.rate ?? null,
    averageDuration: progress?.averageDuration ?? null,
    isClosed: server.state !== 'working',
  }
}
