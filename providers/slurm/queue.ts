/** The queue of the cluster, looked at once for all jobs of a session: what their own callbacks cannot tell. */
import { every, sleep, type Timer, within } from '../../src/time.ts'
import { type Controller, isLive, isOver, type Job } from './controller.ts'

/** How long the reason of an end is looked for, in ms: an end must be known within a second. */
const LOOK = 400

/** Looks in a row that do not show a job, before it is taken as gone: one may come between its steps. */
const MISSES = 3

/** How long a job that was cancelled may take to leave before nobody waits for it any more, in ms. */
const LEAVE = 8_000

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
  /** Looks now; undefined if it runs, or Slurm does not answer at once. */
  look(): Promise<Ended | undefined>
  /** Sees to it that the job ends, and looks after it no more. Never rejects. */
  end(): Promise<void>
}

interface Entry {
  readonly id: string
  readonly setOver: (end: Ended) => void
  /** Called when nothing of it runs any more, for all that Slurm knows. */
  readonly setLeft: () => void
  misses: number
  /** It has been seen to run: a job that waits again was requeued. */
  hasRun: boolean
  isOver: boolean
  isWanted: boolean
}

export class Queue {
  readonly #controller: Controller
  readonly #interval: number
  readonly #entries = new Map<string, Entry>()
  #timer: Timer | undefined
  #looking: Promise<boolean> | undefined
  #cancels: string[] = []
  #cancelling: Promise<void> | undefined

  constructor(controller: Controller, interval: number) {
    this.#controller = controller
    this.#interval = interval
  }

  watch(id: string): Watched {
    let setOver: (end: Ended) => void = () => {}
    const over = new Promise<Ended>((resolve) => {
      setOver = resolve
    })
    let setLeft: () => void = () => {}
    const left = new Promise<void>((resolve) => {
      setLeft = resolve
    })
    const entry = { id, setOver, setLeft, misses: 0, hasRun: false, isOver: false, isWanted: true }
    this.#entries.set(id, entry)
    this.#timer ??= every(this.#interval, () => void this.#look())
    let end: Ended | undefined
    void over.then((why) => {
      end = why
    })
    return {
      id,
      over,
      look: async () => {
        if (!end) await within(LOOK, this.#lookAnew())
        return end
      },
      end: () => this.#end(entry, left),
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
    const left = asked.filter((entry) => !entry.isWanted && !entry.isOver).map(({ id }) => id)
    if (left.length > 0) this.#cancel(left)
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
    if (!isLive(state)) entry.setLeft()
    if (!entry.isWanted) {
      if (isOver(state)) this.#over(entry, { state, reason })
    } else if (!isLive(state) || (state === 'PENDING' && entry.hasRun)) {
      entry.setOver({ state, reason })
      if (isOver(state)) this.#over(entry, { state, reason })
    }
  }

  #over(entry: Entry, end: Ended): void {
    entry.isOver = true
    entry.setOver(end)
    entry.setLeft()
    this.#entries.delete(entry.id)
    if (this.#entries.size > 0) return
    this.#timer?.clear()
    this.#timer = undefined
  }

  async #end(entry: Entry, left: Promise<void>): Promise<void> {
    if (entry.isOver || !entry.isWanted) return
    entry.isWanted = false
    // Those that hang up in the same moment are cancelled by one call.
    this.#cancel([entry.id])
    await this.#cancelling
    let isGone = false
    void left.then(() => {
      isGone = true
    })
    const look = async (): Promise<void> => {
      // All that leave wait for the same looks. Where Slurm does not answer, the job has at least hung up.
      while (!isGone && (await this.#look())) await Promise.race([left, sleep(LEAVING)])
    }
    await within(LEAVE, look())
  }

  #cancel(ids: readonly string[]): void {
    this.#cancels.push(...ids.filter((id) => !this.#cancels.includes(id)))
    this.#cancelling ??= Promise.resolve()
      .then(() => this.#controller.cancel(this.#cancels.splice(0), false))
      // The next look tries again.
      .catch(() => {})
      .finally(() => {
        this.#cancelling = undefined
      })
  }

  /** To be called when all have ended. */
  close(): void {
    this.#timer?.clear()
    this.#timer = undefined
  }
}
