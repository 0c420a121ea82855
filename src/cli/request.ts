/** `manyhost request`: sends a request to a service through the admin address. */
import { createReadStream, statSync } from 'node:fs'
import { STATUS_CODES } from 'node:http'
import type { Readable } from 'node:stream'
import { describeError } from '../core/errors.ts'
import { AdminClient, type AdminFlags, toResponseError } from './admin-client.ts'
import { CliError, EXIT } from './exit.ts'
import { abortOnInterrupt } from './interrupt.ts'
import { write } from './terminal.ts'

interface RequestFlags extends AdminFlags {
  readonly method?: string
  readonly data?: string
  readonly header?: readonly string[]
  readonly include?: boolean
}

export async function run(
  [target = '']: readonly (string | undefined)[],
  options: RequestFlags,
): Promise<number> {
  const headers = (options.header ?? []).map(parseHeader)
  const path = toRequestPath(target)
  const { body, length } = options.data === undefined ? NO_BODY : openRequestBody(options.data)
  if (length !== undefined) headers.push(['content-length', String(length)])
  const admin = new AdminClient(options)
  const interruption = abortOnInterrupt()
  interruption.signal.addEventListener('abort', () => void admin.close())
  try {
    const answer = await admin.request(path, {
      method: options.method ?? (body === null ? 'GET' : 'POST'),
      headers,
      body,
      isStreaming: true,
    })
    const { statusCode, headers: got } = answer
    // The response of an instance has a Via header. A response without one is an error of manyhost itself.
    if (statusCode >= 400 && got.via === undefined) {
      throw toResponseError(statusCode, await answer.body.text(), options.admin)
    }
    if (options.include) await write(formatResponseHead(statusCode, got))
    for await (const chunk of answer.body) await write(chunk)
    return statusCode >= 400 ? EXIT.failure.number : EXIT.ok.number
  } catch (error) {
    if (interruption.signal.aborted) return interruption.code()
    throw error instanceof CliError ? error : admin.toUnreachableError(error)
  } finally {
    await admin.close()
  }
}

/** `calc/add/1/2`, `/calc/add/1/2` or `http://calc/add/1/2`. */
function toRequestPath(target: string): string {
  const match = /^(?:https?:\/\/|\/?)([^/?#\s]+)((?:\/|\?|$).*)$/.exec(target)
  if (!match || /[^\x21-\x7e]/.test(target)) {
    throw new CliError(
      'usage',
      `expected a service and a path such as calc/add/1/2, got ${JSON.stringify(target)}`,
    )
  }
  const [, name = '', path = ''] = match
  return `/api/request/${encodeURIComponent(name)}${path.startsWith('/') ? '' : '/'}${path}`
}

function parseHeader(text: string): [string, string] {
  const colon = text.indexOf(':')
  const name = text.slice(0, Math.max(0, colon)).trim()
  const value = text.slice(colon + 1).trim()
  if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name) || /[^\t\x20-\x7e\x80-\xff]/.test(value)) {
    throw new CliError(
      'usage',
      `--header: expected 'Name: value', got ${JSON.stringify(name || text)}`,
    )
  }
  // Authorization holds the token of the admin address, so the Authorization of the service has another name.
  return [name.toLowerCase() === 'authorization' ? 'x-manyhost-authorization' : name, value]
}

interface CliRequestBody {
  readonly body: string | Readable | null
  /** Bytes, if they are known and the HTTP client does not count them itself. */
  readonly length?: number
}

const NO_BODY: CliRequestBody = { body: null }

function openRequestBody(data: string): CliRequestBody {
  if (!data.startsWith('@')) return { body: data }
  const file = data.slice(1)
  if (file === '-') return { body: process.stdin }
  try {
    const stats = statSync(file)
    if (!stats.isFile()) throw new Error('it is not a file')
    return { body: createReadStream(file), length: stats.size }
  } catch (error) {
    throw new CliError('usage', `--data: cannot read ${file}: ${describeError(error)}`)
  }
}

function formatResponseHead(
  status: number,
  headers: Record<string, string | string[] | undefined>,
): string {
  const rows = Object.entries(headers).flatMap(([name, value]) =>
    [value ?? []].flat().map((one) => `${name}: ${one}`),
  )
  return `${[`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`, ...rows].join('\n')}\n\n`
}
