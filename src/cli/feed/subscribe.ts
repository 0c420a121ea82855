/** `manyhost feed subscribe`: what is said on channels, a line a message. */
import { isUtf8 } from 'node:buffer'
import { appendFileSync } from 'node:fs'
import { describe } from '../../core/errors.ts'
import { wallClock } from '../../core/time.ts'
import type { FeedMessage } from '../../feed/index.ts'
import { CliError } from '../exit.ts'
import { untilInterrupted } from '../interrupt.ts'
import { printable, write } from '../terminal.ts'
import { connect, type PeerOptions, toCliError } from './connect.ts'

interface SubscribeOptions extends PeerOptions {
  readonly json?: boolean
  readonly output?: string
  readonly count?: number
}

export async function run(_: readonly unknown[], options: SubscribeOptions): Promise<number> {
  const { json = false, output, count = Number.POSITIVE_INFINITY } = options
  const interruption = untilInterrupted()
  const { client, channels } = await connect(options)
  interruption.signal.addEventListener('abort', () => void client.close().catch(() => undefined))
  client.subscribe(...channels)
  let left = count
  try {
    for await (const message of client) {
      const row = `${json ? jsonLine(message) : plainLine(message)}\n`
      if (output !== undefined) append(output, row)
      await write(row)
      if (--left <= 0) break
    }
  } catch (error) {
    throw toCliError(error)
  } finally {
    await client.close().catch(() => undefined)
  }
  return interruption.code()
}

function append(file: string, row: string): void {
  try {
    appendFileSync(file, row)
  } catch (error) {
    throw new CliError('failure', `--output: cannot write ${file}: ${describe(error)}`)
  }
}

/** Bytes that are shown of a payload that is no text. */
const SHOWN = 32

/** `logs alice: all is well`, or `logs alice: 4096 bytes: 00ff...`. Nothing in it can steer the terminal. */
export function plainLine({ ident, channel, payload }: FeedMessage): string {
  return `${printable(channel)} ${printable(ident)}: ${plainPayload(payload)}`
}

function plainPayload(payload: Buffer): string {
  if (isText(payload)) return printable(payload.toString('utf8'))
  const more = payload.length > SHOWN ? '...' : ''
  return `${payload.length} bytes: ${payload.toString('hex', 0, SHOWN)}${more}`
}

/** Texts may have line breaks and tabs, but no other control characters. */
function isText(payload: Buffer): boolean {
  return (
    isUtf8(payload) &&
    !payload.some((byte) => (byte < 32 && ![9, 10, 13].includes(byte)) || byte === 127)
  )
}

export function jsonLine({ ident, channel, payload }: FeedMessage, at = wallClock()): string {
  const data = isUtf8(payload)
    ? { text: payload.toString('utf8') }
    : { base64: payload.toString('base64') }
  return JSON.stringify({ at, channel, ident, ...data })
}
