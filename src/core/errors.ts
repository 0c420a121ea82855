/**
 * Every error that manyhost makes. `code`, `status` and `retryable` are data: ask them, never the text. A message
 * says what, where, and what was got; `cause` keeps what lay beneath.
 */

interface ErrorKind {
  /** HTTP status that the gateway answers with. */
  readonly status: number
  /** Whether the same request may succeed when it is made again later. */
  readonly retryable: boolean
  readonly meaning: string
}

/** All codes. README's table of errors is held against this one by a test. */
export const ERRORS = {
  MANYHOST_INVALID_OPTION: kind(400, false, 'an option is unknown or out of its range'),
  MANYHOST_INVALID_URL: kind(400, false, 'a virtual or requested URL cannot be one'),
  MANYHOST_INVALID_SIZE: kind(400, false, 'a size is not a whole number from 0 up'),
  MANYHOST_INVALID_REQUEST: kind(400, false, "a request's header, path or method cannot be sent"),
  MANYHOST_DUPLICATE_SERVICE: kind(409, false, 'the virtual URL is taken by another service'),
  MANYHOST_UNKNOWN_SERVICE: kind(404, false, 'no service has that virtual URL'),
  MANYHOST_UNSUPPORTED: kind(501, false, 'the provider cannot do what the startup asks for'),
  MANYHOST_QUEUE_FULL: kind(503, true, '`maxQueue` requests wait already'),
  MANYHOST_QUEUE_TIMEOUT: kind(503, true, 'no instance was free within `queueTimeout`'),
  MANYHOST_TIMEOUT: kind(504, true, "the request's `timeout` passed, over all attempts"),
  MANYHOST_ABORTED: kind(499, false, 'the caller gave the request up'),
  MANYHOST_ATTEMPTS_EXHAUSTED: kind(502, false, '`maxAttempts` attempts failed (poison request)'),
  MANYHOST_NOT_RESENT: kind(502, true, 'the instance failed and `resend` forbids a second attempt'),
  MANYHOST_RESPONSE_INTERRUPTED: kind(502, true, 'the instance failed in the middle of a response'),
  MANYHOST_BAD_RESPONSE: kind(502, false, 'an instance answered what is not valid HTTP'),
  MANYHOST_BODY_FAILED: kind(400, false, "the request's body threw, or cannot be read (again)"),
  MANYHOST_BODY_USED: kind(400, false, 'the body of the response was read already'),
  MANYHOST_BAD_STATUS: kind(502, false, '`raiseForStatus()` saw a status of 400 or above'),
  MANYHOST_REDIRECT: kind(502, false, 'too many redirects, or one to an impossible URL'),
  MANYHOST_START_FAILED: kind(503, true, 'an instance could not be started'),
  MANYHOST_START_TIMEOUT: kind(503, true, 'an instance was not ready within `startTimeout`'),
  MANYHOST_RUN_FAILED: kind(503, true, '`ctx.run` ended with a non-zero exit'),
  MANYHOST_INSTANCE_ENDED: kind(503, true, 'an instance ended, was stopped or was taken away'),
  MANYHOST_INSTANCE_UNHEALTHY: kind(503, true, 'an instance failed its health check'),
  MANYHOST_ATTEMPT_FAILED: kind(502, true, 'the connection to the instance, or its answer, broke'),
  MANYHOST_ATTEMPT_TIMEOUT: kind(504, true, 'an instance did not answer within `attemptTimeout`'),
  MANYHOST_RETURNED: kind(503, true, 'the instance handed the request back unserved'),
  MANYHOST_SIZE_FAILED: kind(500, true, 'a size threw, hung, or was not a finite number'),
  MANYHOST_FUNCTION_FAILED: kind(500, false, 'a given function failed; a default took its place'),
  MANYHOST_BAD_REQUEST: kind(400, false, 'a request to the gateway is not well-formed HTTP'),
  MANYHOST_UNAUTHORIZED: kind(401, false, 'the gateway was given no, or wrong, credentials'),
  MANYHOST_BODY_TOO_LARGE: kind(413, false, "a request's body is above the gateway's `bodySize`"),
  MANYHOST_BODY_TOO_SLOW: kind(408, true, "a request's body comes slower than `bodyRate`"),
  MANYHOST_TOO_MANY_HEADERS: kind(
    431,
    false,
    'a request has more header fields than `headerCount`',
  ),
  MANYHOST_BAD_RESULT: kind(500, false, "a worker's results are no JSON object, or too large"),
  MANYHOST_WIRE_CLOSED: kind(503, true, 'the link ended, with the reason that its message says'),
  MANYHOST_WIRE_AUTH: kind(401, false, 'the peer of a link could not prove that it has the key'),
  MANYHOST_WIRE_PROTOCOL: kind(502, false, 'the peer of a link broke the protocol'),
  MANYHOST_WIRE_LIMIT: kind(413, false, 'a packet, or what it says, is above a limit'),
  MANYHOST_WIRE_CODE: kind(400, false, 'posted code is more than calls of exposed names'),
  MANYHOST_WIRE_STAGE: kind(409, false, 'a conversation is not in the stage for that'),
  MANYHOST_WIRE_BLOB: kind(400, false, 'a blob is shorter or longer than announced'),
  MANYHOST_WIRE_REMOTE: kind(502, false, "a function of the link's peer threw"),
  MANYHOST_INVALID_TASK: kind(400, false, 'a line is no task, or a task cannot be kept as it is'),
  MANYHOST_UNKNOWN_TASK: kind(404, false, 'no task has that id'),
  MANYHOST_GROUP_FAILED: kind(409, false, 'a group of tasks failed and holds later groups back'),
  MANYHOST_SERVER_EVICTED: kind(409, false, 'another server took over the tasks of this one'),
  MANYHOST_STORE_BUSY: kind(503, true, 'another program holds the lock of the task store'),
  MANYHOST_STORE_FULL: kind(507, true, 'no space is left for the task store'),
  MANYHOST_STORE_VERSION: kind(500, false, 'the task store is of a newer version, or is none'),
  MANYHOST_STORE_FAILED: kind(500, false, 'a store cannot be opened, read or written'),
  MANYHOST_FEED_REFUSED: kind(403, false, "the feed's broker refused a secret or a channel"),
  MANYHOST_FEED_FULL: kind(503, true, "`bufferLimit` is reached and `drop` is 'error'"),
  MANYHOST_FEED_CLOSED: kind(503, false, 'the feed client or the feed is closed'),
  MANYHOST_AGENT_REFUSED: kind(409, true, 'the hub has no room for one more agent'),
  MANYHOST_AGENT_FENCED: kind(409, false, 'an agent speaks of what it had before it was evicted'),
  MANYHOST_SESSION_CLOSED: kind(503, false, 'the session, client or service is closed'),
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof ERRORS

function kind(status: number, retryable: boolean, meaning: string): ErrorKind {
  return { status, retryable, meaning }
}

export interface ErrorDetails {
  cause?: unknown
  /** Replaces the code's own HTTP status, as `MANYHOST_BAD_STATUS` does. */
  status?: number
  retryable?: boolean
  /** What each attempt of the request met, first attempt first. */
  attempts?: readonly AttemptReport[]
  /** Virtual URL of the service concerned. */
  service?: string
  /** Last output of the instance concerned. */
  output?: string
}

/** One attempt of a request, as errors and `response.timing` report it. */
export interface AttemptReport {
  readonly attempt: number
  readonly instance: string
  /** Milliseconds from dispatch to the end of the attempt. */
  readonly duration: number
  /** Why it failed; absent for the attempt that was answered. */
  readonly reason?: string
  readonly error?: Error
}

/** The one class of error. `name` is `AbortError` or `TimeoutError` where the web's convention has those names. */
export class ManyhostError extends Error {
  readonly code: ErrorCode
  /** HTTP status that fits this error. */
  readonly status: number
  readonly retryable: boolean
  readonly attempts: readonly AttemptReport[]
  readonly service: string | undefined
  readonly output: string | undefined

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = webName(code)
    this.code = code
    this.status = details.status ?? ERRORS[code].status
    this.retryable = details.retryable ?? ERRORS[code].retryable
    this.attempts = details.attempts ?? []
    this.service = details.service
    this.output = details.output
  }
}

function webName(code: ErrorCode): string {
  if (code === 'MANYHOST_ABORTED') return 'AbortError'
  if (code === 'MANYHOST_TIMEOUT') return 'TimeoutError'
  return 'ManyhostError'
}

/** Makes an error that does not say where it was made: a stack takes most of the time that an error takes. */
export function withoutStack<E extends Error>(make: () => E): E {
  const { stackTraceLimit } = Error
  // Unlike an assignment it does not throw where the intrinsics are frozen.
  Reflect.set(Error, 'stackTraceLimit', 0)
  try {
    return make()
  } finally {
    Reflect.set(Error, 'stackTraceLimit', stackTraceLimit)
  }
}

/** Anything that was thrown, as an `Error`. Never throws, whatever the getters and `toString` of the value do. */
export function asError(thrown: unknown): Error {
  try {
    if (thrown instanceof Error) {
      // Whatever reads the message later reads it without a guard.
      String(thrown.message)
      return thrown
    }
    // Errors of another realm (node:vm, test runners) are no instances of ours.
    if (typeof thrown === 'object' && thrown !== null && 'message' in thrown) {
      return Object.assign(new Error(String(thrown.message)), thrown)
    }
    return new Error(String(thrown))
  } catch {
    // An object without a way to become text, such as Object.create(null), or one whose own code throws.
    return new Error('something that is no error was thrown')
  }
}

/**
 * The message of anything that was thrown, with its code where it has one: `ECONNREFUSED: connect ...`. Never throws.
 */
export function describe(thrown: unknown): string {
  const error = asError(thrown)
  try {
    const { code, name } = error as { code?: unknown; name?: unknown }
    const message = String(error.message)
    if (typeof code !== 'string' || message.includes(code)) return message || String(name)
    return error instanceof ManyhostError ? message : `${code}: ${message}`
  } catch {
    return 'an error that cannot be read was thrown'
  }
}
