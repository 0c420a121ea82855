/** `manyhost/providers/pull`: workers that poll for jobs, on machines that nobody can connect to. See docs/pull.md. */
export { type Job, JobClient, type JobClientOptions, type NewServiceOptions } from './job-client.ts'
export type { JobStore } from './job-store.ts'
export type { WorkersOptions, WorkersService } from './options.ts'
export { Worker, type WorkerJob, type WorkerOptions } from './worker.ts'
export { type WorkersProvider, workers } from './workers.ts'
