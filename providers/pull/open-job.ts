/** A job that has not ended, and the worker, the instance and the service that it belongs to. */
import type { Timer } from '../../src/core/time.ts'
import type { JobStatus, ServiceRow } from './job-store.ts'
import type { PulledRequest } from './pulled-request.ts'
import type { ServiceSchema } from './schema-checks.ts'

/**
 * `REGISTERED -> WORKING -> COMPLETED | ERROR`. Only the hub takes a job back, from WORKING to REGISTERED, when its claim
 * is over.
 */
export interface OpenJob {
  readonly id: string
  /** The order in which jobs were submitted, over all services. */
  readonly seq: number
  readonly service: JobService
  /** Milliseconds since 1970. */
  readonly submitted: number
  status: JobStatus
  /** Whether the job waits in the queue of its service. */
  isQueued: boolean
  /** The worker that has claimed the job. */
  holder: WorkerRecord | undefined
  /** Names the latest claim. A worker that shows an older lease is late. */
  lease: string | undefined
  /** JSON text of the results that were reported before the job ended. */
  results: string | undefined
  /** How often the job was claimed. */
  attempts: number
  leaseTimer: Timer | undefined
  /** Whether the end of the job is being written to the store. */
  isEnding: boolean
  /** The request to a virtual URL that the job stands for. Such a job is in no store, and ends with its request. */
  readonly request: PulledRequest | undefined
  /** The instance on which that request is. A claim moves the request to the instance of its worker. */
  readonly instance: WorkerInstance | undefined
}

/** A worker that was heard of within its timeout. */
export interface WorkerRecord {
  readonly name: string
  /** On the clock of `now()`. */
  lastSeenAt: number
  /** Long polls of the worker that wait for a job. The worker counts as heard of as long as one of them waits. */
  numWaitingPolls: number
  silenceTimer: Timer | undefined
  /** The jobs that the worker has claimed. */
  readonly jobs: Set<OpenJob>
  /** The instance of the cluster that the worker is; undefined while it is none. */
  instance: WorkerInstance | undefined
}

/** An instance of the cluster, as its jobs and its worker see it. */
export interface WorkerInstance {
  readonly id: string
  readonly isOpen: boolean
  worker: WorkerRecord | undefined
  /** Requests that the cluster has given to this instance. */
  readonly requests: ReadonlySet<PulledRequest>
  addRequest(request: PulledRequest): void
  removeRequest(request: PulledRequest): void
  onWorkerLost(why: string): void
}

/** Numbers for the metrics of a service. */
export interface PullCounts {
  submitted: number
  claimed: number
  expired: number
  late: number
  lost: number
  ended: Record<Extract<JobStatus, 'COMPLETED' | 'ERROR'> | 'CANCELLED', number>
}

/** A service, as its jobs see it. */
export interface JobService {
  readonly row: ServiceRow
  readonly counts: PullCounts
  readonly queue: {
    readonly size: number
    add(job: OpenJob): void
    take(): OpenJob | undefined
    remove(job: OpenJob): void
    peek(count: number): OpenJob[]
  }
  /** Long polls that wait for a job, the longest waiting first. Each one takes a job, or `undefined` for none. */
  readonly waiters: Set<(job: OpenJob | undefined) => void>
  readonly resultSchema: ServiceSchema
  numOpenJobs: number
  readonly isUnavailable: boolean
  /** The worker of that name was heard of. @throws Refusal 503 when there are too many workers */
  recordWorker(name: string): WorkerRecord
  /** A report was refused, because its claim is over. */
  countLate(): void
}

/** Who calls, and by which claim. */
export interface WorkerIdentity {
  readonly worker: string
  readonly lease?: string | undefined
}
