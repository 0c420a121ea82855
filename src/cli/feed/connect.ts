/** Connects the commands of the feed to a broker. */
import { describeError, ManyhostError } from '../../core/errors.ts'
import { FeedClient, type FeedClientOptions } from '../../feed/index.ts'
import { CliError } from '../exit.ts'
import { readOptionFile, readSecret } from '../secrets.ts'
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

/** Resolves when the broker has accepted the client. @throws CliError if an option is wrong, or the broker refuses */
export async function connectFeedClient(options: FeedPeerFlags): Promise<CliFeedConnection> {
  const { chan: channels = [], host, port, unix, debug } = options
  const ident = options.ident ?? process.env.MANYHOST_FEED_IDENT
  if (channels.length === 0) throw new CliError('usage', 'a channel is needed: -c CHANNEL')
  if (!ident) throw new CliError('usage', 'an identity is needed: -i IDENT, or MANYHOST_FEED_IDENT')
  const given: FeedClientOptions = {
    ident,
    secret: requireSecret(options),
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

/** Fails at the first lost connection, so that a wrong port is reported. Later the client connects again by itself. */
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

/** A refusal by the broker has an exit code of its own. */
export function toFeedCliError(error: unknown): unknown {
  const isRefusal = error instanceof ManyhostError && error.code === 'MANYHOST_FEED_REFUSED'
  return isRefusal ? new CliError('refused', printable(error.message), { cause: error }) : error
}

/** Sends all published messages and disconnects. @throws CliError if the broker refuses one, or some were not sent */
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

function requireSecret({ secretFile }: FeedPeerFlags): string {
  const secret = readSecret('--secret-file', secretFile, 'MANYHOST_FEED_SECRET')
  if (secret) return secret
  throw new CliError('usage', 'a secret is needed: --secret-file FILE, or MANYHOST_FEED_SECRET')
}

function toTlsOptions({
  tls = false,
  tlscert,
}: FeedPeerFlags): NonNullable<FeedClientOptions['tls']> {
  return tlscert === undefined ? tls : { ca: readOptionFile('--tlscert', tlscert) }
}

function printClientEvents(client: FeedClient): void {
  const report = (text: string): void => void process.stderr.write(`${printable(text)}\n`)
  client.on('connected', ({ broker }) => report(`connected to ${broker}`))
  client.on('disconnected', ({ reason, retryIn }) => {
    report(`disconnected: ${reason}; next attempt in ${Math.round(retryIn)} ms`)
  })
  client.on('error', ({ message }) => report(message))
  client.on('dropped', ({ messages }) => report(`${messages} messages were dropped`))
}
