/** What is asked of Slurm, by its commands or its REST interface. */
export interface SlurmSubmission {
  readonly name: string
  readonly script: string
  readonly comment: string
  readonly cpus: number | undefined
  readonly memory: number | undefined
}

export interface SlurmJob {
  readonly id: string
  readonly name: string
  /** As Slurm says it, without what follows a space: `PENDING`, `RUNNING`, `OUT_OF_MEMORY`. */
  readonly state: string
  /** Why it is in that state: `Resources`, `NodeDown`. */
  readonly reason: string
  readonly comment: string
}

export interface SlurmController {
  /** Resolves with the job's number. @throws Error with what Slurm said */
  submit(submission: SlurmSubmission): Promise<string>
  /** The jobs of our user, ended ones as long as Slurm has them. */
  listJobs(): Promise<readonly SlurmJob[]>
  /** Jobs that have ended already are no mistake. `force`: by SIGKILL, and all of it. */
  cancel(ids: readonly string[], force: boolean): Promise<void>
  close?(): void
}

/** States in which a job will come to run, or runs. */
const LIVE_STATES = new Set([
  'PENDING',
  'CONFIGURING',
  'RUNNING',
  'SUSPENDED',
  'STOPPED',
  'SIGNALING',
  'RESIZING',
  'POWER_UP_NODE',
])

/** States of jobs whose processes have ended, all of them: a job that completes is in none of these yet. */
const ENDED_STATES = new Set([
  'BOOT_FAIL',
  'CANCELLED',
  'COMPLETED',
  'DEADLINE',
  'FAILED',
  'NODE_FAIL',
  'OUT_OF_MEMORY',
  'PREEMPTED',
  'REVOKED',
  'TIMEOUT',
])

/** Whether a job in that state has, or will have, a server that may be used. */
export function isLiveState(state: string): boolean {
  return LIVE_STATES.has(state)
}

/** Whether nothing of the job runs any more. */
export function isEndedState(state: string): boolean {
  return ENDED_STATES.has(state)
}
