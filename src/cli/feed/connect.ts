/** What the commands of the feed share: a client that has been accepted, or the reason why not. */
import { readFileSync } from 'node:fs'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { FeedClient, type FeedClientOptions } from '../../feed/index.ts'
import { CliError } from '../exit.ts'
import { printable } from '../terminal.ts'

export interface FeedPeerFlags {
  readonly chan?: readonly string[]
  readonly ident?: string
  readonly secretFile?: string
  readonly host?: string
  readonly port?: number
  readonly unix?: string
  readonly tls?: boolean
  readonly tlscert?: string
  readonly debug?: boolean
}

export interface CliFeedConnection {
  readonly client: FeedClient
  readonly channels: readonly string[]
}

/** @throws CliError for what is missing, cannot be read, cannot be reached, or is refused */
export async function connectFeedClient(options: FeedPeerFlags): Promise<CliFeedConnection> {
  const { chan: channels = [], host, port, unix, debug } = options
  const ident = options.ident ?? process.env.MANYHOST_FEED_IDENT
  if (channels.length === 0) throw new CliError('usage', 'expected a channel: -c CHANNEL')
  if (!ident) throw new CliError('usage', 'expected who we are: -i IDENT, or MANYHOST_FEED_IDENT')
  const given: FeedClientOptions = {
    ident,
    secret: readSecret(options),
    tls: toTlsOptions(options),
    ...(host !== undefined && { host }),
    ...(port !== undefined && { port }),
    ...(unix !== undefined && { path: unix }),
  }
  let client: FeedClient
  try {
    client = new FeedClient(given)
  } catch (error) {
    throw new CliError('usage', describeError(error), { cause: error })
  }
  if (debug) printClientEvents(client)
  await waitUntilAccepted(client)
  return { client, channels }
}

/** At first nothing is tried again: who has mistyped a port is to know. Later losses heal by themselves. */
async function waitUntilAccepted(client: FeedClient): Promise<void> {
  let off = (): void => undefined
  const lost = new Promise<never>((_, reject) => {
    off = client.on('disconnected', ({ reason }) => {
      reject(new CliError('unreachable', `the broker cannot be reached: ${printable(reason)}`))
    })
  })
  try {
    await Promise.race([client.ready(), lost])
  } catch (error) {
    const ended = client.close()
    ended.catch(() => undefined)
    throw toFeedCliError(error)
  } finally {
    off()
  }
}

/** A refusal has an exit code of its own. */
export function toFeedCliError(error: unknown): unknown {
  const isRefusal = error instanceof ManyhostError && error.code === 'MANYHOST_FEED_REFUSED'
  return isRefusal ? new CliError('refused', printable(error.message), { cause: error }) : error
}

/** Sends what was published. @throws CliError where the broker refuses it, or some of it was not sent */
export async function sendAndClose(client: FeedClient): Promise<void> {
  try {
    await client.close()
  } catch (error) {
    throw toFeedCliError(error)
  }
  if (client.dropped > 0) {
    throw new CliError('unreachable', `${client.dropped} messages could not be sent`)
  }
}

function readSecret({ secretFile }: FeedPeerFlags): string {
  if (secretFile === undefined) {
    const secret = process.env.MANYHOST_FEED_SECRET
    if (secret) return secret
    throw new CliError('usage', 'expected a secret: --secret-file FILE, or MANYHOST_FEED_SECRET')
  }
  return readOptionFile('--secret-file', secretFile)
    .toString('utf8')
    .replace(/\r?\n$/, '')
}

function toTlsOptions({
  tls = false,
  tlscert,
}: FeedPeerFlags): NonNullable<FeedClientOptions['tls']> {
  return tlscert === undefined ? tls : { ca: readOptionFile('--tlscert', tlscert) }
}

/** @throws CliError */
export function readOptionFile(what: string, file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new CliError('usage', `${what}: cannot read ${file}: ${describeError(error)}`, {
      cause: error,
    })
  }
}

function printClientEvents(client: FeedClient): void {
  const say = (text: string): void => void process.stderr.write(`${printable(text)}\n`)
  client.on('connected', ({ broker }) => say(`connected to ${broker}`))
  client.on('disconnected', ({ reason, retryIn }) => {
    say(`disconnected: ${reason}; again in ${Math.round(retryIn)} ms`)
  })
  client.on('error', ({ message }) => say(message))
  client.on('dropped', ({ messages }) => say(`${messages} messages were dropped`))
}
