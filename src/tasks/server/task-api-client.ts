/** How a task server is spoken to: with its token, which never goes over a network in clear, and whom to trust. */
import { readFileSync } from 'node:fs'
import { Agent, type Dispatcher, request } from 'undici'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { isLoopback } from '../../core/options.ts'

interface TaskApiClientOptions {
  /** `http://127.0.0.1:50001`; a path before `/tasks` is kept. */
  readonly server: string
  readonly token?: string | undefined
  /** PEM file of who signed the server's certificate, or of the certificate itself. */
  readonly caFile?: string | undefined
  /** Sends the token without TLS to another machine, where anybody between can read it. */
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
      `server ${base.origin} is another machine, and its token would be readable on the way: use https://, or say insecure`,
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
