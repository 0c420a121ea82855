/** The queue of the cluster, looked at once for all jobs of a session: what their own callbacks cannot tell. */
import { deferred } from '../../src/core/deferred.ts'
import { every, now, resolveWithin, sleep, type Timer } from '../../src/core/time.ts'
import { isEndedState, isLiveState, type SlurmController, type SlurmJob } from './controller.ts'

/** How long the reason of an end is looked for, in ms: an end must be known within a second. */
const LOOK_TIMEOUT = 400

/** Looks in a row that do not show a job, before it is taken as gone: one may come between its steps. */
const MAX_MISSES = 3

/**
 * How long a job that was cancelled is waited for, in ms: Slurm's defaults give its processes 30 s before they are
 * killed, and its node 60 s more before that is drained as one that cannot end them.
 */
const CANCEL_TIMEOUT = 90_000

/** How long Slurm may be silent before a job that has hung up is no longer waited for, in ms. */
const SILENCE_TIMEOUT = 8_000

/** Between two looks after those that leave, in ms. */
const LEAVING_POLL_INTERVAL = 100

export interface SlurmJobEnd {
  readonly state: string
  readonly reason: string
}

export interface WatchedSlurmJob {
  readonly id: string
  /** Resolves when the job has ended, or is not the one any more that it was. */
  readonly over: Promise<SlurmJobEnd>
  /** Looks now for why it ended; undefined if it runs, or Slurm does not answer at once. */
  findEnd(): Promise<SlurmJobEnd | undefined>
  /**
   * Cancels the job, and resolves with true when Slurm says that nothing of it runs any more, or with false when it did
   * not say so in time; the job is cancelled again then for as long as it is seen. Never rejects.
   */
  cancel(): Promise<boolean>
}

interface WatchedJobEntry {
  readonly id: string
  readonly setOver: (end: SlurmJobEnd) => void
  /** Called when nothing of it runs any more. One that completes has processes that may still run. */
  readonly setLeft: (end: SlurmJobEnd) => void
  numMisses: number
  /** It has been seen to run: a job that waits again was requeued. */
  hasRun: boolean
  isWanted: boolean
}

export class SlurmJobQueue {
  readonly #controller: SlurmController
  readonly #interval: number
  readonly #entries = new Map<string, WatchedJobEntry>()
  #timer: Timer | undefined
  #looking: Promise<boolean> | undefined
  readonly #cancels = new Set<string>()
  #cancelling: Promise<void> | undefined

  constructor(controller: SlurmController, interval: number) {
    this.#controller = controller
    this.#interval = interval
  }

  watch(id: string): WatchedSlurmJob {
    const over = deferred<SlurmJobEnd>()
    const left = deferred<SlurmJobEnd>()
    const entry: WatchedJobEntry = {
      id,
      setOver: over.resolve,
      setLeft: left.resolve,
      numMisses: 0,
      hasRun: false,
      isWanted: true,
    }
    this.#entries.set(id, entry)
    this.#timer ??= every(this.#interval, () => void this.#look())
    let seen: SlurmJobEnd | undefined
    void over.promise.then((end) => {
      seen ??= end
    })
    let isLeft = false
    // Why it ended is known for sure when it has left: until then Slurm only says that it completes.
    void left.promise.then((end) => {
      seen = end
      isLeft = true
    })
    const looked = async (): Promise<void> => {
      const deadline = now() + LOOK_TIMEOUT
      await this.#lookAgain()
      while (seen && !isLeft && now() < deadline) {
        await sleep(LEAVING_POLL_INTERVAL)
        await this.#lookAgain()
      }
    }
    let ending: Promise<boolean> | undefined
    return {
      id,
      over: over.promise,
      findEnd: async () => {
        if (!isLeft) await resolveWithin(LOOK_TIMEOUT, looked())
        return seen
      },
      cancel: () => {
        ending ??= this.#cancelAndWait(entry, left.promise)
        return ending
      },
    }
  }

  /** A look that begins now: one under way may have been answered before. */
  async #lookAgain(): Promise<void> {
    await this.#looking
    await this.#look()
  }

  /** False when Slurm did not answer. */
  #look(): Promise<boolean> {
    this.#looking ??= this.#queryJobs().finally(() => {
      this.#looking = undefined
    })
    return this.#looking
  }

  async #queryJobs(): Promise<boolean> {
    const asked = [...this.#entries.values()]
    let jobs: Map<string, SlurmJob>
    try {
      jobs = new Map((await this.#controller.listJobs()).map((job) => [job.id, job]))
    } catch {
      // It is away: what runs runs on.
      return false
    }
    for (const entry of asked) this.#updateEntry(entry, jobs.get(entry.id))
    // What completes was cancelled already; Slurm sees to its end.
    const again = asked.filter(({ id, isWanted }) => {
      return !isWanted && this.#entries.has(id) && jobs.get(id)?.state !== 'COMPLETING'
    })
    if (again.length > 0) void this.#cancel(again.map(({ id }) => id))
    return true
  }

  #updateEntry(entry: WatchedJobEntry, job: SlurmJob | undefined): void {
    if (!job) {
      if (++entry.numMisses >= MAX_MISSES) this.#removeEntry(entry, { state: 'GONE', reason: '' })
      return
    }
    entry.numMisses = 0
    const { state, reason } = job
    if (state === 'RUNNING') entry.hasRun = true
    if (isEndedState(state)) this.#removeEntry(entry, { state, reason })
    else if (!isLiveState(state) || (state === 'PENDING' && entry.hasRun)) {
      entry.setOver({ state, reason })
    }
  }

  #removeEntry(entry: WatchedJobEntry, end: SlurmJobEnd): void {
    entry.setOver(end)
    entry.setLeft(end)
    this.#entries.delete(entry.id)
    if (this.#entries.size > 0) return
    this.#timer?.clear()
    this.#timer = undefined
  }

  async #cancelAndWait(entry: WatchedJobEntry, left: Promise<SlurmJobEnd>): Promise<boolean> {
    if (!this.#entries.has(entry.id)) return true
    entry.isWanted = false
    await resolveWithin(SILENCE_TIMEOUT, this.#cancel([entry.id]))
    const begun = now()
    let heard = begun
    while (this.#entries.has(entry.id)) {
      // All that leave wait for the same looks.
      if (await resolveWithin(SILENCE_TIMEOUT, this.#look())) heard = now()
      if (now() - begun >= CANCEL_TIMEOUT || now() - heard >= SILENCE_TIMEOUT) break
      await Promise.race([left, sleep(LEAVING_POLL_INTERVAL)])
    }
    return !this.#entries.has(entry.id)
  }

  #cancel(ids: readonly string[]): Promise<void> {
    for (const id of ids) this.#cancels.add(id)
    this.#cancelling ??= this.#cancelAll().finally(() => {
      this.#cancelling = undefined
    })
    return this.#cancelling
  }

  async #cancelAll(): Promise<void> {
    // Those that hang up in the same moment are cancelled by one call, those that come meanwhile by the next.
    await Promise.resolve()
    while (this.#cancels.size > 0) {
      const ids = [...this.#cancels]
      this.#cancels.clear()
      // The next look tries again.
      await this.#controller.cancel(ids, false).catch(() => {})
    }
  }

  /** To be called when all have ended. */
  close(): void {
    this.#timer?.clear()
    this.#timer = undefined
  }
}
