/** The queue of the cluster. One look serves all jobs of a session; it shows what the jobs cannot say themselves. */
import { deferred } from '../../src/core/deferred.ts'
import { every, now, resolveWithin, sleep, type Timer } from '../../src/core/time.ts'
import { isEndedState, isLiveState, type SlurmController, type SlurmJob } from './controller.ts'

/** How long the reason of an end is searched, in ms: an end must be known within a second. */
const LOOK_TIMEOUT = 400

/** A job is gone if this many looks in a row do not show it. One look may come while the job changes its state. */
const MAX_MISSES = 3

/**
 * How long to wait for the end of a cancelled job, in ms. By default Slurm gives its processes 30 s before they are killed,
 * and its node 60 s more before the node is drained because it cannot end them.
 */
const CANCEL_TIMEOUT = 90_000

/** How long to wait for a cancelled job while Slurm does not answer, in ms. */
const SILENCE_TIMEOUT = 8_000

/** The pause between two looks at jobs that are ending, in ms. */
const ENDING_POLL_INTERVAL = 100

export interface SlurmJobEnd {
  readonly state: string
  readonly reason: string
}

export interface WatchedSlurmJob {
  readonly id: string
  /** Resolves when the job has ended, or when it was requeued. */
  readonly over: Promise<SlurmJobEnd>
  /** Looks now for the reason of the end; undefined if the job runs, or if Slurm does not answer at once. */
  findEnd(): Promise<SlurmJobEnd | undefined>
  /**
   * Cancels the job. Resolves with true when Slurm says that nothing of it runs any more, and with false if Slurm did not
   * say so in time. Then the job is cancelled again as long as looks show it. Never rejects.
   */
  cancel(): Promise<boolean>
}

interface WatchedJobEntry {
  readonly id: string
  readonly setOver: (end: SlurmJobEnd) => void
  /** Called when nothing of the job runs any more. While it is COMPLETING, some of its processes may still run. */
  readonly setGone: (end: SlurmJobEnd) => void
  numMisses: number
  /** Whether the job was seen to run. If it is pending after that, it was requeued. */
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
    const gone = deferred<SlurmJobEnd>()
    const entry: WatchedJobEntry = {
      id,
      setOver: over.resolve,
      setGone: gone.resolve,
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
    let isGone = false
    // The reason is sure only when nothing of the job runs any more: before that Slurm only says COMPLETING.
    void gone.promise.then((end) => {
      seen = end
      isGone = true
    })
    const looked = async (): Promise<void> => {
      const deadline = now() + LOOK_TIMEOUT
      await this.#lookAgain()
      while (seen && !isGone && now() < deadline) {
        await sleep(ENDING_POLL_INTERVAL)
        await this.#lookAgain()
      }
    }
    let ending: Promise<boolean> | undefined
    return {
      id,
      over: over.promise,
      findEnd: async () => {
        if (!isGone) await resolveWithin(LOOK_TIMEOUT, looked())
        return seen
      },
      cancel: () => {
        ending ??= this.#cancelAndWait(entry, gone.promise)
        return ending
      },
    }
  }

  /** Starts a new look: the answer to a look that is under way may be older. */
  async #lookAgain(): Promise<void> {
    await this.#looking
    await this.#look()
  }

  /** Resolves with false if Slurm did not answer. */
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
      // Slurm is away, and the jobs run on.
      return false
    }
    for (const entry of asked) this.#updateEntry(entry, jobs.get(entry.id))
    // Slurm is ending a job that is COMPLETING already.
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
    entry.setGone(end)
    this.#entries.delete(entry.id)
    if (this.#entries.size > 0) return
    this.#timer?.clear()
    this.#timer = undefined
  }

  async #cancelAndWait(entry: WatchedJobEntry, gone: Promise<SlurmJobEnd>): Promise<boolean> {
    if (!this.#entries.has(entry.id)) return true
    entry.isWanted = false
    await resolveWithin(SILENCE_TIMEOUT, this.#cancel([entry.id]))
    const begun = now()
    let heard = begun
    while (this.#entries.has(entry.id)) {
      // All jobs that are ending wait for the same looks.
      if (await resolveWithin(SILENCE_TIMEOUT, this.#look())) heard = now()
      if (now() - begun >= CANCEL_TIMEOUT || now() - heard >= SILENCE_TIMEOUT) break
      await Promise.race([gone, sleep(ENDING_POLL_INTERVAL)])
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
    // Jobs that end in the same moment are cancelled by one call, and jobs that come meanwhile by the next call.
    await Promise.resolve()
    while (this.#cancels.size > 0) {
      const ids = [...this.#cancels]
      this.#cancels.clear()
      // The next look tries again.
      await this.#controller.cancel(ids, false).catch(() => {})
    }
  }

  /** Call this when all jobs have ended. */
  close(): void {
    this.#timer?.clear()
    this.#timer = undefined
  }
}
