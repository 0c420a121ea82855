/** The queue of the cluster, looked at once for all jobs of a session: what their own callbacks cannot tell. */
import { every, now, sleep, type Timer, within } from '../../src/core/time.ts'
import { type Controller, isLive, isOver, type Job } from './controller.ts'

/** How long the reason of an end is looked for, in ms: an end must be known within a second. */
const LOOK = 400

/** Looks in a row that do not show a job, before it is taken as gone: one may come between its steps. */
const MISSES = 3

/**
 * How long a job that was cancelled is waited for, in ms: Slurm's defaults give its processes 30 s before they are
 * killed, and its node 60 s more before that is drained as one that cannot end them.
 */
const LEAVE = 90_000

/** How long Slurm may be silent before a job that has hung up is no longer waited for, in ms. */
const SILENCE = 8_000

/** Between two looks after those that leave, in ms. */
const LEAVING = 100

export interface Ended {
  readonly state: string
  readonly reason: string
}

export interface Watched {
  readonly id: string
  /** Resolves when the job has ended, or is not the one any more that it was. */
  readonly over: Promise<Ended>
  /** Looks now for why it ended; undefined if it runs, or Slurm does not answer at once. */
  look(): Promise<Ended | undefined>
  /**
   * Cancels the job, and resolves with true when Slurm says that nothing of it runs any more, or with false when it did
   * not say so in time; the job is cancelled again then for as long as it is seen. Never rejects.
   */
  end(): Promise<boolean>
}

interface Entry {
  readonly id: string
  readonly setOver: (end: Ended) => void
  /** Called when nothing of it runs any more. One that completes has processes that may still run. */
  readonly setLeft: (end: Ended) => void
  misses: number
  /** It has been seen to run: a job that waits again was requeued. */
  hasRun: boolean
  isWanted: boolean
}

export class Queue {
  readonly #controller: Controller
  readonly #interval: number
  readonly #entries = new Map<string, Entry>()
  #timer: Timer | undefined
  #looking: Promise<boolean> | undefined
  readonly #cancels = new Set<string>()
  #cancelling: Promise<void> | undefined

  constructor(controller: Controller, interval: number) {
    this.#controller = controller
    this.#interval = interval
  }

  watch(id: string): Watched {
    const over = settable<Ended>()
    const left = settable<Ended>()
    const entry: Entry = {
      id,
      setOver: over.set,
      setLeft: left.set,
      misses: 0,
      hasRun: false,
      isWanted: true,
    }
    this.#entries.set(id, entry)
    this.#timer ??= every(this.#interval, () => void this.#look())
    let seen: Ended | undefined
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
      const deadline = now() + LOOK
      await this.#lookAnew()
      while (seen && !isLeft && now() < deadline) {
        await sleep(LEAVING)
        await this.#lookAnew()
      }
    }
    let ending: Promise<boolean> | undefined
    return {
      id,
      over: over.promise,
      look: async () => {
        if (!isLeft) await within(LOOK, looked())
        return seen
      },
      end: () => {
        ending ??= this.#end(entry, left.promise)
        return ending
      },
    }
  }

  /** A look that begins now: one under way may have been answered before. */
  async #lookAnew(): Promise<void> {
    await this.#looking
    await this.#look()
  }

  /** False when Slurm did not answer. */
  #look(): Promise<boolean> {
    this.#looking ??= this.#ask().finally(() => {
      this.#looking = undefined
    })
    return this.#looking
  }

  async #ask(): Promise<boolean> {
    const asked = [...this.#entries.values()]
    let jobs: Map<string, Job>
    try {
      jobs = new Map((await this.#controller.jobs()).map((job) => [job.id, job]))
    } catch {
      // It is away: what runs runs on.
      return false
    }
    for (const entry of asked) this.#see(entry, jobs.get(entry.id))
    // What completes was cancelled already; Slurm sees to its end.
    const again = asked.filter(({ id, isWanted }) => {
      return !isWanted && this.#entries.has(id) && jobs.get(id)?.state !== 'COMPLETING'
    })
    if (again.length > 0) void this.#cancel(again.map(({ id }) => id))
    return true
  }

  #see(entry: Entry, job: Job | undefined): void {
    if (!job) {
      if (++entry.misses >= MISSES) this.#over(entry, { state: 'GONE', reason: '' })
      return
    }
    entry.misses = 0
    const { state, reason } = job
    if (state === 'RUNNING') entry.hasRun = true
    if (isOver(state)) this.#over(entry, { state, reason })
    else if (!isLive(state) || (state === 'PENDING' && entry.hasRun)) {
      entry.setOver({ state, reason })
    }
  }

  #over(entry: Entry, end: Ended): void {
    entry.setOver(end)
    entry.setLeft(end)
    this.#entries.delete(entry.id)
    if (this.#entries.size > 0) return
    this.#timer?.clear()
    this.#timer = undefined
  }

  async #end(entry: Entry, left: Promise<Ended>): Promise<boolean> {
    if (!this.#entries.has(entry.id)) return true
    entry.isWanted = false
    await within(SILENCE, this.#cancel([entry.id]))
    const begun = now()
    let heard = begun
    while (this.#entries.has(entry.id)) {
      // All that leave wait for the same looks.
      if (await within(SILENCE, this.#look())) heard = now()
      if (now() - begun >= LEAVE || now() - heard >= SILENCE) break
      await Promise.race([left, sleep(LEAVING)])
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

function settable<T>(): { readonly promise: Promise<T>; readonly set: (value: T) => void } {
  let set: (value: T) => void = () => {}
  const promise = new Promise<T>((resolve) => {
    set = resolve
  })
  return { promise, set }
}
