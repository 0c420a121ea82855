/** Calls a task server's HTTP API: with its token, which never crosses a network unencrypted unless that is asked for. */
import { readFileSync } from 'node:fs'
import { Agent, type Dispatcher, request } from 'undici'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { isLoopback } from '../../core/options.ts'

interface TaskApiClientOptions {
  /** `http://127.0.0.1:50001`. A path is put before `/tasks`. */
  readonly server: string
  readonly token?: string | undefined
  /** PEM file of the certificate that signed the server's, or of the server's own. */
  readonly caFile?: string | undefined
  /** Whether the token may be sent to another machine without TLS: then it can be read on the way. @default false */
  readonly insecure?: boolean | undefined
}

interface TaskApiCall {
  readonly method?: Dispatcher.HttpMethod
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  readonly headersTimeout?: number
  readonly bodyTimeout?: number
}

export type TaskApiRequest = (path: string, call: TaskApiCall) => Promise<Dispatcher.ResponseData>

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function openTaskApiClient(options: TaskApiClientOptions): {
  readonly origin: string
  readonly ask: TaskApiRequest
  close(): Promise<void>
} {
  const { server, token, caFile, insecure = false } = options
  const base = new URL(server.endsWith('/') ? server : `${server}/`)
  if (base.protocol === 'http:' && token && !insecure && !isLoopback(base.hostname)) {
    throw invalidOption(
      `server ${base.origin} is another machine, and its token could be read on the way: use https://, or say insecure`,
    )
  }
  const agent = new Agent({ connect: caFile === undefined ? {} : { ca: readCaFile(caFile) } })
  return {
    origin: base.origin,
    ask: (path, { headers = {}, ...rest }) =>
      request<null>(new URL(path, base), {
        ...rest,
        dispatcher: agent,
        headers: { ...headers, ...(token !== undefined && { authorization: `Bearer ${token}` }) },
      }),
    close: () => agent.destroy(),
  }
}

/** What a server's error answer says, for people; undefined if it is no problem details (RFC 9457). */
export async function readProblemDetail({
  body,
}: Dispatcher.ResponseData): Promise<string | undefined> {
  const problem = (await body.json().catch(() => undefined)) as { detail?: unknown } | undefined
  return typeof problem?.detail === 'string' ? problem.detail : undefined
}

function readCaFile(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    throw invalidOption(`caFile ${path} cannot be read: ${describeError(error)}`)
  }
}

function invalidOption(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}
