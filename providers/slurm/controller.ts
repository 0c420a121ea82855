/** The calls to Slurm, which go to its commands or to its REST interface. */
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
  /** The state in the words of Slurm, up to the first space: `PENDING`, `RUNNING`, `OUT_OF_MEMORY`. */
  readonly state: string
  /** Why the job is in that state: `Resources`, `NodeDown`. */
  readonly reason: string
  readonly comment: string
}

export interface SlurmController {
  /** Resolves with the number of the job. @throws Error with the message of Slurm */
  submit(submission: SlurmSubmission): Promise<string>
  /** The jobs of our user, also ended ones as long as Slurm knows them. */
  listJobs(): Promise<readonly SlurmJob[]>
  /** Jobs that have ended already are no error. @param force kills all processes of the jobs by SIGKILL */
  cancel(ids: readonly string[], force: boolean): Promise<void>
  close?(): void
}

/** States of jobs that run, or will run. */
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

/** States of jobs whose processes have all ended. COMPLETING is none of them. */
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

/** Whether a job in this state has a server that may be used, or will have one. */
export function isLiveState(state: string): boolean {
  return LIVE_STATES.has(state)
}

/** Whether nothing of the job runs any more. */
export function isEndedState(state: string): boolean {
  return ENDED_STATES.has(state)
}
