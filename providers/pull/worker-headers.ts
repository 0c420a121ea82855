/** Header fields by which a worker says who it is. */

/** Name of the worker. It chooses a name that no other worker of the service has. */
export const WORKER_HEADER = 'x-manyhost-worker'
/** The lease of the claim. The answer to a claim has it, and each report of the job sends it back. */
export const LEASE_HEADER = 'x-manyhost-lease'

export const WORKER_NAME = /^[\w.:-]{1,100}$/
