/** The errors of an instance. Each has the last lines of its output, in the message, and its whole kept output. */
import { asError, describeError, ManyhostError } from '../core/errors.ts'
import type { OutputTail } from '../core/output-tail.ts'

/** What an error says about the instance that it is about. */
export interface InstanceErrorContext {
  readonly id: string
  /** Virtual URL. */
  readonly service: string
  readonly output: OutputTail
}

export type InstanceErrorCode = 'MANYHOST_INSTANCE_ENDED' | 'MANYHOST_INSTANCE_UNHEALTHY'

/** Lines of output in the message of an error. */
const OUTPUT_LINES = 20

/**
 * @param thrown why the start has failed
 * @param lastTry why the last check whether it is ready has failed, if there was one
 */
export function startFailedError(
  instance: InstanceErrorContext,
  thrown: unknown,
  lastTry: unknown,
): ManyhostError {
  const cause = asError(thrown)
  const isTimeout = cause instanceof ManyhostError && cause.code === 'MANYHOST_START_TIMEOUT'
  const tried = lastTry && isTimeout ? `; last try: ${describeError(lastTry)}` : ''
  const code = isTimeout ? 'MANYHOST_START_TIMEOUT' : 'MANYHOST_START_FAILED'
  const text = `could not be started: ${describeError(cause)}${tried}`
  return createError(instance, code, text, cause)
}

export function instanceFailedError(
  instance: InstanceErrorContext,
  code: InstanceErrorCode,
  reason: string,
): ManyhostError {
  return createError(instance, code, `failed: ${reason}`)
}

function createError(
  { id, service, output }: InstanceErrorContext,
  code: ManyhostError['code'],
  text: string,
  cause?: Error,
): ManyhostError {
  const lines = output.lastLines(OUTPUT_LINES)
  const message = `${service}: ${id} ${text}${lines && `\n${lines}`}`
  return new ManyhostError(code, message, {
    ...(cause && { cause }),
    service,
    output: output.text(),
  })
}
