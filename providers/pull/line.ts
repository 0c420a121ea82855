/** Jobs of a service that wait: first in, first out. One that was given up goes back to its old place. */
import type { Job } from './job.ts'

export class JobLine {
  /** By `seq`; those that have left it some other way than by `take` are passed over. */
  #jobs: Job[] = []
  #head = 0
  #size = 0

  get size(): number {
    return this.#size
  }

  add(job: Job): void {
    job.waits = true
    this.#size++
    const jobs = this.#jobs
    let at = jobs.length
    while (at > this.#head && (jobs[at - 1] as Job).seq > job.seq) at--
    // Where it stood before it stands again, and not a second time.
    if (jobs[at - 1] === job && at > this.#head) return
    jobs.splice(at, 0, job)
    // Those that were cancelled are let go of when they are the larger part.
    if (jobs.length - this.#head > 2 * this.#size + 1_024) {
      this.#jobs = jobs.filter((one) => one.waits)
      this.#head = 0
    }
  }

  /** The oldest one. */
  take(): Job | undefined {
    while (this.#head < this.#jobs.length) {
      const job = this.#jobs[this.#head++] as Job
      this.#shorten()
      if (!job.waits) continue
      this.remove(job)
      return job
    }
    return undefined
  }

  remove(job: Job): void {
    if (!job.waits) return
    job.waits = false
    this.#size--
  }

  first(count: number): Job[] {
    const found: Job[] = []
    for (let at = this.#head; at < this.#jobs.length && found.length < count; at++) {
      const job = this.#jobs[at] as Job
      if (job.waits) found.push(job)
    }
    return found
  }

  /** What has been passed by is let go of once it is the larger part. */
  #shorten(): void {
    if (this.#head < 1_024 || this.#head * 2 < this.#jobs.length) return
    this.#jobs = this.#jobs.slice(this.#head)
    this.#head = 0
  }
}
