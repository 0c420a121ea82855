/** `manyhost feed subscribe`: prints the messages of channels, one line for each message. */
import { isUtf8 } from 'node:buffer'
import { appendFileSync } from 'node:fs'
import { describeError } from '../../core/errors.ts'
import { wallClock } from '../../core/time.ts'
import type { FeedMessage } from '../../feed/index.ts'
import { CliError } from '../exit.ts'
import { abortOnInterrupt } from '../interrupt.ts'
import { printable, write } from '../terminal.ts'
import { connectFeedClient, type FeedPeerFlags, toFeedCliError } from './connect.ts'

interface SubscribeFlags extends FeedPeerFlags {
  readonly json?: boolean
  readonly output?: string
  readonly count?: number
}

export async function run(_: readonly unknown[], options: SubscribeFlags): Promise<number> {
  const { json = false, output, count = Number.POSITIVE_INFINITY } = options
  const interruption = abortOnInterrupt()
  const { client, channels } = await connectFeedClient(options)
  interruption.signal.addEventListener('abort', () => void client.close().catch(() => undefined))
  client.subscribe(...channels)
  let left = count
  try {
    for await (const message of client) {
      const row = `${json ? formatJsonLine(message) : formatPlainLine(message)}\n`
      if (output !== undefined) appendRow(output, row)
      await write(row)
      if (--left <= 0) break
    }
  } catch (error) {
    throw toFeedCliError(error)
  } finally {
    await client.close().catch(() => undefined)
  }
  return interruption.code()
}

function appendRow(file: string, row: string): void {
  try {
    appendFileSync(file, row)
  } catch (error) {
    throw new CliError('failure', `--output: cannot write ${file}: ${describeError(error)}`)
  }
}

/** How many bytes are printed of a payload that is not text. */
const MAX_SHOWN_BYTES = 32

/** `logs alice: all is well`, or `logs alice: 4096 bytes: 00ff...`, without characters that could control the terminal. */
export function formatPlainLine({ ident, channel, payload }: FeedMessage): string {
  return `${printable(channel)} ${printable(ident)}: ${formatPlainPayload(payload)}`
}

function formatPlainPayload(payload: Buffer): string {
  if (isText(payload)) return printable(payload.toString('utf8'))
  const more = payload.length > MAX_SHOWN_BYTES ? '...' : ''
  return `${payload.length} bytes: ${payload.toString('hex', 0, MAX_SHOWN_BYTES)}${more}`
}

/** A text can have line breaks and tabs, but no other control characters. */
function isText(payload: Buffer): boolean {
  return (
    isUtf8(payload) &&
    !payload.some((byte) => (byte < 32 && ![9, 10, 13].includes(byte)) || byte === 127)
  )
}

export function formatJsonLine({ ident, channel, payload }: FeedMessage, at = wallClock()): string {
  const data = isUtf8(payload)
    ? { text: payload.toString('utf8') }
    : { base64: payload.toString('base64') }
  return JSON.stringify({ at, channel, ident, ...data })
}
