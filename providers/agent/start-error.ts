/** The error of a start that failed on an agent's machine. */
import { describeError, ManyhostError } from '../../src/core/errors.ts'

/**
 * Adds to an error of an agent what is known of the instance here. An error of the link, and one without a code of
 * manyhost, becomes MANYHOST_START_FAILED.
 * @param what what was not done, for the message
 * @param output the last that the instance has written
 */
export function toStartError(
  thrown: unknown,
  what: string,
  output: string,
  service: string,
): ManyhostError {
  const known = thrown instanceof ManyhostError ? thrown : undefined
  const isOurs = known && !known.code.startsWith('MANYHOST_WIRE_')
  return new ManyhostError(
    isOurs ? known.code : 'MANYHOST_START_FAILED',
    isOurs ? known.message : `${what}: ${describeError(thrown)}`,
    { service, output, cause: thrown },
  )
}
