/** A task server at an address, and the token for it. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Dispatcher } from 'undici'
import { describeError } from '../../core/errors.ts'
import { openTaskApiClient, readProblemDetail } from '../../tasks/server/task-api-client.ts'
import { defaultStorePath } from '../../tasks/store/open.ts'
import { CliError } from '../exit.ts'
import { toTaskCliError } from './store.ts'

export interface TaskServerFlags {
  readonly server?: string
  readonly tokenFile?: string
  readonly caFile?: string
  readonly insecure?: boolean
}

/** What `submitFrom` is to know of the server. @throws CliError */
export function toPeerOptions(flags: TaskServerFlags & { server: string }) {
  return {
    server: flags.server,
    token: readServerToken(flags),
    caFile: flags.caFile,
    insecure: flags.insecure,
  }
}

export function checkServerUrl({ server }: TaskServerFlags): string | undefined {
  if (server !== undefined && !/^https?:\/\//.test(server)) {
    throw new CliError(
      'usage',
      `--server: expected an http:// address, got ${JSON.stringify(server)}`,
    )
  }
  return server
}

/** Where a server's token is when nobody says otherwise: readable by this user alone. */
function tokenPath({ tokenFile: given }: TaskServerFlags): string {
  return given ?? join(dirname(defaultStorePath()), 'server.token')
}

export function readServerToken(flags: TaskServerFlags): string | undefined {
  const own = process.env.MANYHOST_TASKS_TOKEN
  if (own && flags.tokenFile === undefined) return own
  const path = tokenPath(flags)
  try {
    return readFileSync(path, 'utf8').trim()
  } catch (error) {
    if (flags.tokenFile === undefined && (error as NodeJS.ErrnoException).code === 'ENOENT') {
      return undefined
    }
    throw new CliError('config', `--token-file: ${describeError(error)}`, { cause: error })
  }
}

/** The token of this server: the one there is, or a new one, which is kept for those who hand tasks in. */
export function readOrCreateToken(flags: TaskServerFlags): string {
  const known = readServerToken(flags)
  if (known !== undefined) {
    if (known.length >= 16) return known
    throw new CliError('config', 'the token must have 16 characters or more')
  }
  const path = tokenPath(flags)
  const token = randomBytes(24).toString('hex')
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  writeFileSync(path, `${token}\n`, { mode: 0o600, flag: 'wx' })
  return token
}

/** Throws CliError where the server does not answer, or with an error. */
type RequestTaskServer = (
  path: string,
  method?: Dispatcher.HttpMethod,
) => Promise<Dispatcher.ResponseData>

/** The server that is meant. What is left of connections ends with this process. @throws CliError */
export function connectTaskServer(flags: TaskServerFlags): RequestTaskServer {
  const server = checkServerUrl(flags) as string
  const peer = openServerPeer(flags, server)
  return async (path, method = 'GET') => {
    let answer: Dispatcher.ResponseData
    try {
      answer = await peer.ask(path, { method, headersTimeout: 90_000 })
    } catch (error) {
      throw new CliError('unreachable', `${server}: ${describeError(error)}`, { cause: error })
    }
    const { statusCode } = answer
    if (statusCode < 400) return answer
    const detail = await readProblemDetail(answer)
    const exit = statusCode === 404 ? 'notFound' : statusCode === 401 ? 'refused' : 'failure'
    throw new CliError(exit, detail ?? `${server} answered ${statusCode}`)
  }
}

function openServerPeer(
  flags: TaskServerFlags,
  server: string,
): ReturnType<typeof openTaskApiClient> {
  try {
    return openTaskApiClient(toPeerOptions({ ...flags, server }))
  } catch (error) {
    throw toTaskCliError(error)
  }
}
