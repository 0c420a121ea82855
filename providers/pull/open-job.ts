/** A job that has not ended, and the worker that may have it. */
import type { Timer } from '../../src/core/time.ts'
import type { JobStatus } from './job-store.ts'
import type { PullInstance } from './pull-instance.ts'
import type { PullService } from './pull-service.ts'
import type { PulledRequest } from './pulled-request.ts'

/** `REGISTERED -> WORKING -> COMPLETED | ERROR`; only the hub takes one back to the line, with its lease. */
export interface OpenJob {
  readonly id: string
  readonly seq: number
  readonly service: PullService
  /** Milliseconds since 1970. */
  readonly submitted: number
  status: JobStatus
  /** Whether it stands in the line. */
  isQueued: boolean
  /** Who has it. */
  holder: WorkerRecord | undefined
  /** Names this claim and no other; whoever shows an older one is late. */
  lease: string | undefined
  /** JSON text of the results that were reported before the job ended. */
  results: string | undefined
  attempts: number
  leaseTimer: Timer | undefined
  /** A change of it is being written. */
  isEnding: boolean
  /** The request that it stands for. It is in no store, and ends with its request. */
  readonly request: PulledRequest | undefined
}

/** A worker that is there. */
export interface WorkerRecord {
  readonly name: string
  /** On the clock of `now()`. */
  lastSeenAt: number
  /** Requests of it that wait for a job: it is there as long as one does. */
  numWaitingPolls: number
  silenceTimer: Timer | undefined
  readonly jobs: Set<OpenJob>
  /** The instance that it is. */
  instance: PullInstance | undefined
}

/** Who asks, and by which claim. */
export interface WorkerIdentity {
  readonly worker: string
  readonly lease?: string | undefined
}
