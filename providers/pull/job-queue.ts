/** Jobs of a service that wait: first in, first out. One that was given up goes back to its old place. */
import type { OpenJob } from './open-job.ts'

export class JobQueue {
  /** By `seq`; those that have left it some other way than by `take` are passed over. */
  #jobs: OpenJob[] = []
  #head = 0
  #size = 0

  get size(): number {
    return this.#size
  }

  add(job: OpenJob): void {
    job.isQueued = true
    this.#size++
    const jobs = this.#jobs
    let at = jobs.length
    while (at > this.#head && (jobs[at - 1] as OpenJob).seq > job.seq) at--
    // Where it stood before it stands again, and not a second time.
    if (jobs[at - 1] === job && at > this.#head) return
    jobs.splice(at, 0, job)
    // Those that were cancelled are let go of when they are the larger part.
    if (jobs.length - this.#head > 2 * this.#size + 1_024) {
      this.#jobs = jobs.filter((one) => one.isQueued)
      this.#head = 0
    }
  }

  /** The oldest one. */
  take(): OpenJob | undefined {
    while (this.#head < this.#jobs.length) {
      const job = this.#jobs[this.#head++] as OpenJob
      this.#compact()
      if (!job.isQueued) continue
      this.remove(job)
      return job
    }
    return undefined
  }

  remove(job: OpenJob): void {
    if (!job.isQueued) return
    job.isQueued = false
    this.#size--
  }

  peek(count: number): OpenJob[] {
    const found: OpenJob[] = []
    for (let at = this.#head; at < this.#jobs.length && found.length < count; at++) {
      const job = this.#jobs[at] as OpenJob
      if (job.isQueued) found.push(job)
    }
    return found
  }

  /** What has been passed by is let go of once it is the larger part. */
  #compact(): void {
    if (this.#head < 1_024 || this.#head * 2 < this.#jobs.length) return
    this.#jobs = this.#jobs.slice(this.#head)
    this.#head = 0
  }
}
