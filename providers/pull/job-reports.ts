/** What a worker reports at the end of a job, as JSON text. A report that cannot be written, or that nobody would take, is
 * replaced by the report of an error: a job whose end is not reported keeps its caller waiting. */
import { describeError, ManyhostError } from '../../src/core/errors.ts'

/** Characters of a reason; more are cut off, as the server does. */
const MAX_REASON_LENGTH = 2_000

/** JobReports of one end, the preferred one first. Each of the others is sent when the one before it was refused. */
export type JobReports = readonly [string, ...string[]]

/**
 * @param limit bytes of the largest report that the server takes
 * @throws ManyhostError MANYHOST_BAD_RESULT with what is wrong with the results
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
      `must be a JSON object, got ${(text ?? String(results)).slice(0, 100)}`,
    )
  }
  const report = `{"status":"COMPLETED","results":${text}}`
  const size = Buffer.byteLength(report)
  if (size > limit)
    throw createBadResultError(`have ${size} bytes, and the server takes ${limit} at most`)
  return [report]
}

/** @param limit bytes of the largest report that the server takes: a longer reason is cut off */
export function createErrorReports(error: unknown, limit: number): JobReports {
  let reason = describeError(error).slice(0, MAX_REASON_LENGTH)
  const report = (): string => JSON.stringify({ status: 'ERROR', reason })
  while (reason !== '' && Buffer.byteLength(report()) > limit) {
    reason = reason.slice(0, reason.length >> 1)
  }
  // The second one is for a server that has not told its limit.
  return [report(), '{"status":"ERROR"}']
}

function createBadResultError(why: string): ManyhostError {
  return new ManyhostError('MANYHOST_BAD_RESULT', `the results of the job ${why}`)
}
