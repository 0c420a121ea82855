/**
 * What a worker reports at the end of a job, as JSON text. Results that cannot be written as JSON, or that are too large
 * for the server, become the report of an error: without any report the caller of the job would wait for ever.
 */
import { describe } from '../../src/core/describe.ts'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import { MAX_REASON_LENGTH } from './job-limits.ts'

/** The reports of one outcome, the best one first. Each further one is sent when the one before it was refused. */
export type JobReports = readonly [string, ...string[]]

/**
 * @param limit bytes of the largest report that the server takes
 * @throws ManyhostError MANYHOST_BAD_RESULT that says what is wrong with the results
 */
export function createResultReports(results: unknown, limit: number): JobReports {
  let text: string | undefined
  try {
    text = JSON.stringify(results)
  } catch (error) {
    throw createBadResultError(`cannot be written as JSON: ${describeError(error)}`)
  }
  if (!text?.startsWith('{')) {
    throw createBadResultError(
      `must be a JSON object, got ${(text ?? describe(results)).slice(0, 100)}`,
    )
  }
  const report = `{"status":"COMPLETED","results":${text}}`
  const size = Buffer.byteLength(report)
  if (size > limit)
    throw createBadResultError(`have ${size} bytes, and the server takes at most ${limit}`)
  return [report]
}

/** @param limit bytes of the largest report that the server takes. A longer reason is shortened. */
export function createErrorReports(error: unknown, limit: number): JobReports {
  let reason = describeError(error).slice(0, MAX_REASON_LENGTH)
  const report = (): string => JSON.stringify({ status: 'ERROR', reason })
  while (reason !== '' && Buffer.byteLength(report()) > limit) {
    reason = reason.slice(0, reason.length >> 1)
  }
  // The second report is for a server that has not said its limit.
  return [report(), '{"status":"ERROR"}']
}

function createBadResultError(why: string): ManyhostError {
  return new ManyhostError('MANYHOST_BAD_RESULT', `the results of the job ${why}`)
}
