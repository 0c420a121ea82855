/** Limits and values of jobs that the hub, its workers and its schemas share. */

export const JOB_STATUSES = ['REGISTERED', 'WORKING', 'COMPLETED', 'ERROR'] as const

/** Longest reason of an ERROR, in characters. The worker and the hub cut off the rest. */
export const MAX_REASON_LENGTH = 2_000

/** Longest texts of a service, in characters. */
export const SERVICE_TEXT_LIMITS = { name: 30, description: 1_000, token: 200 } as const
