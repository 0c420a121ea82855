/**
 * The jobs of a service that wait: first in, first out, by `seq`. A job that comes back after a lost claim gets its old
 * place, ahead of all younger jobs. core's `Fifo` cannot do that.
 *
 *     index   0      1      2      3      4      5
 *     jobs  [ taken  taken  seq 3  seq 4  seq 7  seq 8 ]
 *                           ^ head                     ^ add: new jobs are pushed here; a job that comes back is
 *                                                        inserted before the first job with a higher seq
 *
 * A job that is removed from the middle only loses its `isQueued`. It stays in the array, and is skipped by `take`, until
 * such jobs are the larger part.
 */

interface QueuedJob {
  readonly seq: number
  isQueued: boolean
}

/** Entries of no use that are kept before the array is copied without them. */
const COMPACT_FROM = 1_024

export class JobQueue<J extends QueuedJob> {
  #jobs: J[] = []
  #head = 0
  #size = 0

  get size(): number {
    return this.#size
  }

  add(job: J): void {
    job.isQueued = true
    this.#size++
    const jobs = this.#jobs
    let at = jobs.length
    while (at > this.#head && (jobs[at - 1] as J).seq > job.seq) at--
    // The job was removed before and is still in the array.
    if (jobs[at - 1] === job && at > this.#head) return
    jobs.splice(at, 0, job)
    if (jobs.length - this.#head > 2 * this.#size + COMPACT_FROM) {
      this.#jobs = jobs.filter((one) => one.isQueued)
      this.#head = 0
    }
  }

  /** Takes the oldest job out. */
  take(): J | undefined {
    while (this.#head < this.#jobs.length) {
      const job = this.#jobs[this.#head++] as J
      this.#compact()
      if (!job.isQueued) continue
      this.remove(job)
      return job
    }
    return undefined
  }

  remove(job: J): void {
    if (!job.isQueued) return
    job.isQueued = false
    this.#size--
  }

  /** The oldest jobs, which stay. */
  peek(count: number): J[] {
    const found: J[] = []
    for (let at = this.#head; at < this.#jobs.length && found.length < count; at++) {
      const job = this.#jobs[at] as J
      if (job.isQueued) found.push(job)
    }
    return found
  }

  /** Drops the entries before the head when they are the larger part. */
  #compact(): void {
    if (this.#head < COMPACT_FROM || this.#head * 2 < this.#jobs.length) return
    this.#jobs = this.#jobs.slice(this.#head)
    this.#head = 0
  }
}
