/** A job that has not ended, and the worker that may have it. */
import type { Timer } from '../../src/core/time.ts'
import type { Call } from './call.ts'
import type { Place } from './place.ts'
import type { Service } from './service.ts'
import type { JobStatus } from './store.ts'

/** `REGISTERED -> WORKING -> COMPLETED | ERROR`; only the hub takes one back to the line, with its lease. */
export interface Job {
  readonly id: string
  readonly seq: number
  readonly service: Service
  /** Milliseconds since 1970. */
  readonly submitted: number
  status: JobStatus
  /** Whether it stands in the line. */
  waits: boolean
  /** Who has it. */
  seat: Seat | undefined
  /** Names this claim and no other; whoever shows an older one is late. */
  lease: string | undefined
  /** JSON text of the results that were reported before the job ended. */
  results: string | undefined
  attempts: number
  timer: Timer | undefined
  /** A change of it is being written. */
  isSettling: boolean
  /** The request that it stands for. It is in no store, and ends with its request. */
  readonly call: Call | undefined
}

/** A worker that is there. */
export interface Seat {
  readonly name: string
  /** On the clock of `now()`. */
  seenAt: number
  /** Requests of it that wait for a job: it is there as long as one does. */
  parked: number
  timer: Timer | undefined
  readonly jobs: Set<Job>
  /** The instance that it is. */
  place: Place | undefined
}

/** Who asks, and by which claim. */
export interface Caller {
  readonly worker: string
  readonly lease?: string | undefined
}
