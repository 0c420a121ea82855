/** Connects an agent to its hub: for its own link, for a tunnel, or for files. */
import { once } from 'node:events'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import { requireListenAddress } from '../../src/core/listen-address.ts'
import { resolveWithin } from '../../src/core/time.ts'
import { dial, type NamesFor, takeSocket, type WireEnds } from '../../src/wire/index.ts'

/** For the connection and the handshake of TLS, in ms. */
const CONNECT_TIMEOUT = 10_000

export interface HubConnectOptions {
  /** `host:port` or `unix:/path`. */
  readonly address: string
  readonly key: string | Uint8Array
  readonly ident: string
  readonly tls:
    | true
    | { readonly ca?: string | Uint8Array; readonly fingerprint?: string }
    | undefined
}

/** @throws ManyhostError MANYHOST_WIRE_AUTH, MANYHOST_WIRE_CLOSED, MANYHOST_TIMEOUT */
export async function connectHub(options: HubConnectOptions, names: NamesFor): Promise<WireEnds> {
  const { key, ident, tls } = options
  // For links that carry files. On its own link the agent sends heartbeats more often, and waits for their answers.
  const link = { key, ident, beat: 15_000, deadAfter: 45_000 }
  const fingerprint = tls === true ? undefined : tls?.fingerprint
  if (fingerprint !== undefined) return connectPinned(options, fingerprint, names, link)
  const own = tls === true || !tls ? tls : { ca: tls.ca as string }
  return dial(
    {
      ...requireListenAddress('the address of the hub', options.address),
      ...link,
      ...(own && { tls: own }),
    },
    names,
  )
}

/**
 * Accepts exactly the certificate with this fingerprint, whoever has signed it. It is checked before the first byte is
 * sent: the proof of the key is not bound to the TLS channel, so a machine in between could pass the proof on.
 */
async function connectPinned(
  { address }: HubConnectOptions,
  fingerprint: string,
  names: NamesFor,
  link: { key: string | Uint8Array; ident: string; beat: number; deadAfter: number },
): Promise<WireEnds> {
  const target: ConnectionOptions = requireListenAddress('the address of the hub', address)
  const socket = connectTls({ ...target, rejectUnauthorized: false, servername: '' })
  socket.allowHalfOpen = true
  socket.setNoDelay(true).setKeepAlive(true)
  const closed = 'MANYHOST_WIRE_CLOSED'
  try {
    const isUp = await resolveWithin(
      CONNECT_TIMEOUT,
      once(socket, 'secureConnect').then(() => true),
    )
    if (!isUp)
      throw new ManyhostError('MANYHOST_TIMEOUT', `no TLS with ${address} in ${CONNECT_TIMEOUT} ms`)
  } catch (cause) {
    socket.on('error', () => {}).destroy()
    if (cause instanceof ManyhostError) throw cause
    throw new ManyhostError(closed, `cannot connect to ${address}: ${describeError(cause)}`, {
      cause,
    })
  }
  const found = socket.getPeerCertificate().fingerprint256 ?? ''
  if (normalizeFingerprint(found) === normalizeFingerprint(fingerprint))
    return takeSocket(socket, names, { role: 'dial', ...link })
  socket.on('error', () => {}).destroy()
  throw new ManyhostError(
    'MANYHOST_WIRE_AUTH',
    `the certificate of ${address} has the fingerprint ${found}, not ${fingerprint}`,
  )
}

function normalizeFingerprint(fingerprint: string): string {
  return fingerprint
    .replace(/^sha256:/i, '')
    .replaceAll(':', '')
    .toLowerCase()
}
