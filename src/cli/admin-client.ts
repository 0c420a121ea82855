/** The client of the admin API of a running `manyhost serve`. */
import { Agent, type Dispatcher } from 'undici'
import { asError, describeError } from '../core/errors.ts'
import { CliError } from './exit.ts'
import { readSecret } from './secrets.ts'
import { printable } from './terminal.ts'

/** The options of all commands that call the admin API. */
export interface AdminFlags {
  readonly admin: string
  readonly tokenFile?: string
}

type Method = 'GET' | 'PUT' | 'POST'
type AdminResponse = Dispatcher.ResponseData

export interface AdminRequest {
  readonly method?: string
  readonly json?: unknown
  readonly body?: Dispatcher.DispatchOptions['body']
  readonly headers?: readonly (readonly [string, string])[]
  /** Turns the response timeouts off, for a stream of events or for the response of a service. */
  readonly isStreaming?: boolean
}

/** The admin API answers faster than this, except for streams. */
const RESPONSE_TIMEOUT_MS = 30_000

export class AdminClient {
  /** The address as the user wrote it, for messages. */
  readonly #address: string
  readonly #origin: string
  readonly #token: string | undefined
  readonly #agent: Agent
  readonly #abort = new AbortController()

  constructor({ admin, tokenFile }: AdminFlags) {
    this.#address = admin
    const { origin, socketPath } = parseAdminAddress(admin)
    this.#origin = origin
    this.#token = readSecret('--token-file', tokenFile, 'MANYHOST_TOKEN')?.trim()
    this.#agent = new Agent({
      connect: { timeout: 5_000, ...(socketPath && { socketPath }) },
      headersTimeout: RESPONSE_TIMEOUT_MS,
      bodyTimeout: RESPONSE_TIMEOUT_MS,
    })
  }

  /** Resolves with the JSON of the response. @throws CliError for a status of 400 or above */
  async requestJson<T>(
    path: string,
    { method = 'GET', json }: { method?: Method; json?: unknown } = {},
  ) {
    const { body } = await this.requestOk(path, { method, json })
    return (await this.#mapErrors(() => body.json())) as T
  }

  /** Resolves with a response whose body is still to be read. @throws CliError for a status of 400 or above */
  async requestOk(path: string, call: AdminRequest = {}): Promise<AdminResponse> {
    const answer = await this.request(path, call)
    if (answer.statusCode < 400) return answer
    const text = await this.#mapErrors(() => answer.body.text())
    throw toResponseError(answer.statusCode, text, this.#address)
  }

  /** Resolves with a response of any status. @throws CliError if there is none */
  async request(path: string, call: AdminRequest = {}): Promise<AdminResponse> {
    const { method = 'GET', json, headers = [], body, isStreaming = false } = call
    const flat = headers.flat()
    // The admin API refuses requests without this header: a page of another site cannot send it.
    flat.push('x-requested-with', 'manyhost')
    if (this.#token) flat.push('authorization', `Bearer ${this.#token}`)
    if (json !== undefined) flat.push('content-type', 'application/json')
    return this.#mapErrors(() =>
      this.#agent.request({
        origin: this.#origin,
        path,
        method: method as Dispatcher.HttpMethod,
        headers: flat,
        body: json === undefined ? (body ?? null) : JSON.stringify(json),
        signal: this.#abort.signal,
        ...(isStreaming && { headersTimeout: 0, bodyTimeout: 0 }),
      }),
    )
  }

  async #mapErrors<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action()
    } catch (error) {
      throw this.toUnreachableError(error)
    }
  }

  /** The error for a connection that could not be made, or that broke. */
  toUnreachableError(error: unknown): CliError {
    const cause = asError(error) as NodeJS.ErrnoException & { errors?: Error[] }
    const why = REASONS_BY_CODE[cause.code ?? ''] ?? describeError(cause.errors?.[0] ?? cause)
    return new CliError(
      'unreachable',
      `cannot reach the admin address ${this.#address}: ${why}; is 'manyhost serve' running? (--admin, MANYHOST_ADMIN)`,
      { cause },
    )
  }

  /** Aborts all requests, also those whose response is still being read. */
  async close(): Promise<void> {
    this.#abort.abort()
    await this.#agent.destroy()
  }
}

const REASONS_BY_CODE: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there',
  ENOENT: 'there is no such socket',
  ENOTFOUND: 'no such host',
  EACCES: 'no right to do so',
  UND_ERR_CONNECT_TIMEOUT: 'no connection within 5s',
  UND_ERR_HEADERS_TIMEOUT: 'no answer within 30s',
  UND_ERR_SOCKET: 'the connection was closed',
  ECONNRESET: 'the connection was closed',
}

/** `http://host:port`, `host:port`, `:port` or `unix:/path`. */
function parseAdminAddress(text: string): { origin: string; socketPath?: string } {
  if (text.startsWith('unix:') && text.length > 5) {
    return { origin: 'http://localhost', socketPath: text.slice(5) }
  }
  const url = /^https?:\/\//i.test(text) ? text : `http://${text.replace(/^:/, '127.0.0.1:')}`
  if (!URL.canParse(url)) {
    throw new CliError(
      'usage',
      `--admin: expected a URL such as http://127.0.0.1:9090, got ${JSON.stringify(text)}`,
    )
  }
  const { origin, username, password } = new URL(url)
  if (username || password) {
    throw new CliError(
      'usage',
      '--admin: a token does not belong into a URL; set MANYHOST_TOKEN or give --token-file',
    )
  }
  return { origin }
}

/** Makes an error of a response: its body is RFC 9457 problem details, or any text. */
export function toResponseError(status: number, text: string, name: string): CliError {
  const { detail, code } = parseProblemDetails(text)
  const reason = printable(detail ?? `status ${status}`)
  if (status === 401) {
    const how = 'set MANYHOST_TOKEN or give --token-file'
    return new CliError('refused', `${name} asks for a token: ${reason}; ${how}`)
  }
  if (status === 404 || code === 'MANYHOST_UNKNOWN_SERVICE') return new CliError('notFound', reason)
  return new CliError(code === 'MANYHOST_INVALID_SIZE' ? 'usage' : 'failure', reason)
}

function parseProblemDetails(text: string): { detail?: string; code?: string } {
  try {
    const { detail, code } = JSON.parse(text)
    return {
      ...(typeof detail === 'string' && { detail }),
      ...(typeof code === 'string' && { code }),
    }
  } catch {
    return {}
  }
}

/** The path of a cluster in the admin API. `name` is a name such as `calc`, or the URL of the service. */
export function clusterPath(name: string, rest = ''): string {
  return `/api/clusters/${encodeURIComponent(name)}${rest}`
}
