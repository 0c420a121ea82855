/** The task server at an address, and the token for it. */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Dispatcher } from 'undici'
import { describeError } from '../../core/errors.ts'
import { openTaskApiClient, readProblemDetail } from '../../tasks/server/task-api-client.ts'
import { defaultStorePath } from '../../tasks/store/open.ts'
import { CliError } from '../exit.ts'
import { checkSecretLength, readSecret } from '../secrets.ts'
import { toTaskCliError } from './store.ts'

export interface TaskServerFlags {
  readonly server?: string
  readonly tokenFile?: string
  readonly caFile?: string
  readonly insecure?: boolean
}

/** The options of `submitFrom` for this server. @throws CliError */
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

/** The file of the token. The default file is beside the default store, and only this user can read it. */
function tokenPath({ tokenFile: given }: TaskServerFlags): string {
  return given ?? join(dirname(defaultStorePath()), 'server.token')
}

/** @throws CliError if a token file cannot be read */
export function readServerToken(flags: TaskServerFlags): string | undefined {
  const path = tokenPath(flags)
  const isUsed = flags.tokenFile !== undefined || !process.env.MANYHOST_TASKS_TOKEN
  if (isUsed && flags.tokenFile === undefined && !existsSync(path)) return undefined
  return readSecret('--token-file', isUsed ? path : undefined, 'MANYHOST_TASKS_TOKEN')?.trim()
}

/** The token of this server. Where there is none yet, a new one is stored for the programs that submit tasks. */
export function readOrCreateToken(flags: TaskServerFlags): string {
  const known = readServerToken(flags)
  if (known !== undefined) return checkSecretLength(known, 'the token', 'config')
  const path = tokenPath(flags)
  const token = randomBytes(24).toString('hex')
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  writeFileSync(path, `${token}\n`, { mode: 0o600, flag: 'wx' })
  return token
}

/** Sends a request to the task server. @throws CliError if there is no response, or a status of 400 or above */
type RequestTaskServer = (
  path: string,
  method?: Dispatcher.HttpMethod,
) => Promise<Dispatcher.ResponseData>

/** Connects to the server of `--server`. Its connections end with this process. @throws CliError */
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
    const kind = statusCode === 404 ? 'notFound' : statusCode === 401 ? 'refused' : 'failure'
    throw new CliError(kind, detail ?? `${server} answered ${statusCode}`)
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
