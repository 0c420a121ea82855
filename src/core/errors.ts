/**
 * Every error that manyhost throws. Programs should read `code`, `status` and `retryable`, never the message. A message says
 * what was wrong, where, and what was got; `cause` has the error below.
 */

interface ErrorKind {
  /** HTTP status of the gateway's response. */
  readonly status: number
  /** Whether the same request may succeed later. */
  readonly retryable: boolean
  readonly meaning: string
}

/** All codes. A test compares README's table of errors with this one. */
export const ERRORS = {
  MANYHOST_INVALID_OPTION: errorKind(400, false, 'an option is unknown or out of its range'),
  MANYHOST_INVALID_URL: errorKind(400, false, 'a virtual or requested URL cannot be one'),
  MANYHOST_INVALID_SIZE: errorKind(400, false, 'a size is not a whole number from 0 up'),
  MANYHOST_INVALID_REQUEST: errorKind(
    400,
    false,
    "a request's header, path or method cannot be sent",
  ),
  MANYHOST_DUPLICATE_SERVICE: errorKind(409, false, 'the virtual URL is taken by another service'),
  MANYHOST_UNKNOWN_SERVICE: errorKind(404, false, 'no service has that virtual URL'),
  MANYHOST_UNSUPPORTED: errorKind(501, false, 'the provider cannot do what the startup asks for'),
  MANYHOST_QUEUE_FULL: errorKind(503, true, '`maxQueue` requests wait already'),
  MANYHOST_QUEUE_TIMEOUT: errorKind(503, true, 'no instance was free within `queueTimeout`'),
  MANYHOST_TIMEOUT: errorKind(504, true, "the request's `timeout` passed, over all attempts"),
  MANYHOST_ABORTED: errorKind(499, false, 'the caller gave the request up'),
  MANYHOST_ATTEMPTS_EXHAUSTED: errorKind(
    502,
    false,
    '`maxAttempts` attempts failed (poison request)',
  ),
  MANYHOST_NOT_RESENT: errorKind(
    502,
    true,
    'the instance failed and `resend` forbids a second attempt',
  ),
  MANYHOST_RESPONSE_INTERRUPTED: errorKind(
    502,
    true,
    'the instance failed in the middle of a response',
  ),
  MANYHOST_BAD_RESPONSE: errorKind(502, false, 'an instance answered what is not valid HTTP'),
  MANYHOST_BODY_FAILED: errorKind(
    400,
    false,
    "the request's body threw, or cannot be read (again)",
  ),
  MANYHOST_BODY_USED: errorKind(400, false, 'the body of the response was read already'),
  MANYHOST_BAD_STATUS: errorKind(502, false, '`raiseForStatus()` saw a status of 400 or above'),
  MANYHOST_REDIRECT: errorKind(502, false, 'too many redirects, or one to an impossible URL'),
  MANYHOST_START_FAILED: errorKind(503, true, 'an instance could not be started'),
  MANYHOST_START_TIMEOUT: errorKind(503, true, 'an instance was not ready within `startTimeout`'),
  MANYHOST_RUN_FAILED: errorKind(503, true, '`ctx.run` ended with a non-zero exit'),
  MANYHOST_INSTANCE_ENDED: errorKind(503, true, 'an instance ended, was stopped or was taken away'),
  MANYHOST_INSTANCE_UNHEALTHY: errorKind(503, true, 'an instance failed its health check'),
  MANYHOST_ATTEMPT_FAILED: errorKind(
    502,
    true,
    'the connection to the instance, or its answer, broke',
  ),
  MANYHOST_ATTEMPT_TIMEOUT: errorKind(
    504,
    true,
    'an instance did not answer within `attemptTimeout`',
  ),
  MANYHOST_RETURNED: errorKind(503, true, 'the instance handed the request back unserved'),
  MANYHOST_SIZE_FAILED: errorKind(500, true, 'a size threw, hung, or was not a finite number'),
  MANYHOST_FUNCTION_FAILED: errorKind(
    500,
    false,
    'a given function failed; a default took its place',
  ),
  MANYHOST_BAD_REQUEST: errorKind(400, false, 'a request to the gateway is not well-formed HTTP'),
  MANYHOST_UNAUTHORIZED: errorKind(401, false, 'the gateway was given no, or wrong, credentials'),
  MANYHOST_BODY_TOO_LARGE: errorKind(
    413,
    false,
    "a request's body is above the gateway's `bodySize`",
  ),
  MANYHOST_BODY_TOO_SLOW: errorKind(408, true, "a request's body comes slower than `bodyRate`"),
  MANYHOST_TOO_MANY_HEADERS: errorKind(
    431,
    false,
    'a request has more header fields than `headerCount`',
  ),
  MANYHOST_BAD_RESULT: errorKind(500, false, "a worker's results are no JSON object, or too large"),
  MANYHOST_WIRE_CLOSED: errorKind(
    503,
    true,
    'the link ended, with the reason that its message says',
  ),
  MANYHOST_WIRE_AUTH: errorKind(
    401,
    false,
    'the peer of a link could not prove that it has the key',
  ),
  MANYHOST_WIRE_PROTOCOL: errorKind(502, false, 'the peer of a link broke the protocol'),
  MANYHOST_WIRE_LIMIT: errorKind(413, false, 'a packet, or what it says, is above a limit'),
  MANYHOST_WIRE_CODE: errorKind(400, false, 'posted code is more than calls of exposed names'),
  MANYHOST_WIRE_STAGE: errorKind(409, false, 'a conversation is not in the stage for that'),
  MANYHOST_WIRE_BLOB: errorKind(400, false, 'a blob is shorter or longer than announced'),
  MANYHOST_WIRE_REMOTE: errorKind(502, false, "a function of the link's peer threw"),
  MANYHOST_INVALID_TASK: errorKind(
    400,
    false,
    'a line is no task, or a task cannot be kept as it is',
  ),
  MANYHOST_UNKNOWN_TASK: errorKind(404, false, 'no task has that id'),
  MANYHOST_GROUP_FAILED: errorKind(
    409,
    false,
    'a group of tasks failed and holds later groups back',
  ),
  MANYHOST_SERVER_EVICTED: errorKind(409, false, 'another server took over the tasks of this one'),
  MANYHOST_STORE_BUSY: errorKind(503, true, 'another program holds the lock of the task store'),
  MANYHOST_STORE_FULL: errorKind(507, true, 'no space is left for the task store'),
  MANYHOST_STORE_VERSION: errorKind(500, false, 'the task store is of a newer version, or is none'),
  MANYHOST_STORE_FAILED: errorKind(500, false, 'a store cannot be opened, read or written'),
  MANYHOST_FEED_REFUSED: errorKind(403, false, "the feed's broker refused a secret or a channel"),
  MANYHOST_FEED_FULL: errorKind(503, true, "`bufferLimit` is reached and `drop` is 'error'"),
  MANYHOST_FEED_CLOSED: errorKind(503, false, 'the feed client or the feed is closed'),
  MANYHOST_AGENT_REFUSED: errorKind(409, true, 'the hub has no room for one more agent'),
  MANYHOST_AGENT_FENCED: errorKind(
    409,
    false,
    'an agent speaks of what it had before it was evicted',
  ),
  MANYHOST_SESSION_CLOSED: errorKind(503, false, 'the session, client or service is closed'),
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof ERRORS

function errorKind(status: number, retryable: boolean, meaning: string): ErrorKind {
  return { status, retryable, meaning }
}

export interface ErrorDetails {
  cause?: unknown
  /** Replaces the code's own HTTP status, as `MANYHOST_BAD_STATUS` does. */
  status?: number
  retryable?: boolean
  /** The attempts of the request, oldest first. */
  attempts?: readonly AttemptReport[]
  /** Virtual URL of the service. */
  service?: string
  /** Last output of the instance. */
  output?: string
}

/** One attempt of a request, as errors and `response.timing` report it. */
export interface AttemptReport {
  readonly attempt: number
  readonly instance: string
  /** Milliseconds from dispatch to the end of the attempt. */
  readonly duration: number
  /** Why the attempt failed; absent for the attempt that was answered. */
  readonly reason?: string
  readonly error?: Error
}

/** The only class of error. `name` is `AbortError` or `TimeoutError` where the web has these names. */
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

/** Makes an error without a stack, which would take most of the time. */
export function createWithoutStack<E extends Error>(make: () => E): E {
  const { stackTraceLimit } = Error
  // Unlike an assignment, `Reflect.set` does not throw where the intrinsics are frozen.
  Reflect.set(Error, 'stackTraceLimit', 0)
  try {
    return make()
  } finally {
    Reflect.set(Error, 'stackTraceLimit', stackTraceLimit)
  }
}

/** A thrown value as an `Error`. Never throws, whatever the getters and `toString` of the value do. */
export function asError(thrown: unknown): Error {
  try {
    if (thrown instanceof Error) {
      // Later reads of the message are not guarded.
      String(thrown.message)
      return thrown
    }
    // An error of another realm (node:vm, test runners) is no instance of this realm's `Error`.
    if (typeof thrown === 'object' && thrown !== null && 'message' in thrown) {
      return Object.assign(new Error(String(thrown.message)), thrown)
    }
    return new Error(String(thrown))
  } catch {
    // The value cannot become text, as Object.create(null), or its own code throws.
    return new Error('a value that cannot be read was thrown')
  }
}

/** The message of a thrown value, with its code if it has one: `ECONNREFUSED: connect ...`. Never throws. */
export function describeError(thrown: unknown): string {
  const error = asError(thrown)
  try {
    const { code, name } = error as { code?: unknown; name?: unknown }
    const message = String(error.message)
    if (typeof code !== 'string' || message.includes(code)) return message || String(name)
    return error instanceof ManyhostError ? message : `${code}: ${message}`
  } catch {
    return 'an error whose message cannot be read was thrown'
  }
}
