/** `manyhost request`: a request to a service, through the admin address. */
import { createReadStream, statSync } from 'node:fs'
import { STATUS_CODES } from 'node:http'
import type { Readable } from 'node:stream'
import { describe } from '../core/errors.ts'
import { Admin, type AdminOptions, problemOf } from './admin.ts'
import { CliError, EXIT } from './exit.ts'
import { untilInterrupted } from './interrupt.ts'
import { write } from './terminal.ts'

interface RequestOptions extends AdminOptions {
  readonly method?: string
  readonly data?: string
  readonly header?: readonly string[]
  readonly include?: boolean
}

export async function run(
  [target = '']: readonly (string | undefined)[],
  options: RequestOptions,
): Promise<number> {
  const headers = (options.header ?? []).map(header)
  const path = requestPath(target)
  const { body, length } = options.data === undefined ? NO_BODY : bodyOf(options.data)
  if (length !== undefined) headers.push(['content-length', String(length)])
  const admin = new Admin(options)
  const interruption = untilInterrupted()
  interruption.signal.addEventListener('abort', () => void admin.close())
  try {
    const answer = await admin.send(path, {
      method: options.method ?? (body === null ? 'GET' : 'POST'),
      headers,
      body,
      streams: true,
    })
    const { statusCode, headers: got } = answer
    // What an instance answered says by Via that it came through us; what has none is our own word.
    if (statusCode >= 400 && got.via === undefined) {
      throw problemOf(statusCode, await answer.body.text(), options.admin)
    }
    if (options.include) await write(head(statusCode, got))
    for await (const chunk of answer.body) await write(chunk)
    return statusCode >= 400 ? EXIT.failure.number : EXIT.ok.number
  } catch (error) {
    if (interruption.signal.aborted) return interruption.code()
    throw error instanceof CliError ? error : admin.lost(error)
  } finally {
    await admin.close()
  }
}

/** `calc/add/1/2`, `/calc/add/1/2` or `http://calc/add/1/2`. */
function requestPath(target: string): string {
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

function header(text: string): [string, string] {
  const colon = text.indexOf(':')
  const name = text.slice(0, Math.max(0, colon)).trim()
  const value = text.slice(colon + 1).trim()
  if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name) || /[^\t\x20-\x7e\x80-\xff]/.test(value)) {
    throw new CliError(
      'usage',
      `--header: expected 'Name: value', got ${JSON.stringify(name || text)}`,
    )
  }
  // Authorization is what the admin address itself is asked with; the service's travels under another name.
  return [name.toLowerCase() === 'authorization' ? 'x-manyhost-authorization' : name, value]
}

interface Body {
  readonly body: string | Readable | null
  /** Bytes, where they are known and the client does not count them itself. */
  readonly length?: number
}

const NO_BODY: Body = { body: null }

function bodyOf(data: string): Body {
  if (!data.startsWith('@')) return { body: data }
  const file = data.slice(1)
  if (file === '-') return { body: process.stdin }
  try {
    const stats = statSync(file)
    if (!stats.isFile()) throw new Error('it is not a file')
    return { body: createReadStream(file), length: stats.size }
  } catch (error) {
    throw new CliError('usage', `--data: cannot read ${file}: ${describe(error)}`)
  }
}

function head(status: number, headers: Record<string, string | string[] | undefined>): string {
  const rows = Object.entries(headers).flatMap(([name, value]) =>
    [value ?? []].flat().map((one) => `${name}: ${one}`),
  )
  return `${[`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`, ...rows].join('\n')}\n\n`
}
