/** Connects to a peer. */
import { connect, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { asError, describeError, ManyhostError } from '../core/errors.ts'
import { parseOptions } from '../core/options.ts'
import { after } from '../core/time.ts'
import { acceptLink } from './accept.ts'
import type { HostingEnd, PostingEnd } from './ends.ts'
import { sendGreeting } from './handshake.ts'
import { WireLink } from './link.ts'
import type { NamesFor } from './names-for.ts'
import {
  DIAL_RULES,
  type DialOptions,
  parseLinkOptions,
  parseWhere,
  type WireLinkOptions,
} from './options.ts'

/** The two objects of a link on this side: `po` posts, `ho` hosts. */
export interface WireEnds {
  readonly po: PostingEnd
  readonly ho: HostingEnd
}

/**
 * Connects to a peer. Resolves when the greeting is done and `__hbi_init__` has run.
 * @param where options, `host:port`, or `unix:/path`; by default 127.0.0.1:3232
 * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_WIRE_CLOSED, MANYHOST_WIRE_AUTH, MANYHOST_TIMEOUT, MANYHOST_ABORTED
 */
export async function dial(where: string | DialOptions, names: NamesFor = {}): Promise<WireEnds> {
  const given = parseWhere<DialOptions>(where)
  const { host, port, path, tls, signal, ...settings } = parseOptions('wire', given, DIAL_RULES)
  const target = path === undefined ? { host: host ?? '127.0.0.1', port } : { path }
  const options = { ...target, allowHalfOpen: true, noDelay: true, keepAlive: true }
  const tlsOptions = tls === true ? {} : tls
  const socket = tls
    ? connectTls({
        ...options,
        ...(target.host && { servername: getTlsServerName(target.host) }),
        ...tlsOptions,
      })
    : connect(options)
  const address = path ?? `${target.host}:${port}`
  await waitForConnection(
    socket,
    tls ? 'secureConnect' : 'connect',
    address,
    settings.handshakeTimeout,
    signal,
  )
  return greetPeer(new WireLink(socket, settings, names), signal)
}

/**
 * Makes a link of a connected socket, in the role of the dialling end or of the dialled one.
 * @throws ManyhostError as `dial` does
 */
export async function takeSocket(
  socket: Duplex,
  names: NamesFor = {},
  options: WireLinkOptions & { role?: 'dial' | 'serve' } = {},
): Promise<WireEnds> {
  const { role = 'dial', ...given } = options
  const link = new WireLink(socket, parseLinkOptions(given), names)
  if (role === 'dial') return greetPeer(link)
  return acceptLink(link)
}

/** Empty for an IP address: Node refuses IP addresses as server names. */
function getTlsServerName(host: string): string {
  return /^[\d.]+$|:/.test(host) ? '' : host
}

async function waitForConnection(
  socket: Socket | TLSSocket,
  event: string,
  address: string,
  timeout: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const settle = (error?: ManyhostError): void => {
      timer.clear()
      socket.off('error', onError).off(event, onConnect)
      signal?.removeEventListener('abort', onAbort)
      if (!error) return resolve()
      socket.on('error', () => {}).destroy()
      reject(error)
    }
    const closed = 'MANYHOST_WIRE_CLOSED'
    const onError = (cause: Error): void =>
      settle(
        new ManyhostError(closed, `cannot connect to ${address}: ${describeError(cause)}`, {
          cause,
        }),
      )
    const onConnect = (): void => settle()
    const onAbort = (): void => settle(createAbortedError(signal))
    const timer = after(timeout, () =>
      settle(
        new ManyhostError('MANYHOST_TIMEOUT', `no connection to ${address} within ${timeout} ms`),
      ),
    )
    socket.once('error', onError).once(event, onConnect)
    if (signal?.aborted) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
  })
}

function createAbortedError(signal: AbortSignal | undefined): ManyhostError {
  return new ManyhostError('MANYHOST_ABORTED', 'connecting to the peer was aborted', {
    cause: signal?.reason,
  })
}

async function greetPeer(link: WireLink, signal?: AbortSignal): Promise<WireEnds> {
  const onAbort = (): void => void link.disconnect(undefined, false, createAbortedError(signal))
  signal?.addEventListener('abort', onAbort, { once: true })
  link.keepalive.start()
  try {
    await sendGreeting(link)
    await link.callInit()
    return { po: link.po, ho: link.ho }
  } catch (thrown) {
    const error = asError(thrown)
    void link.disconnect(describeError(error))
    // The peer sends the refusal as the reason for which it ends the link.
    const isRefused = /peer error: (?:authentication|no proof)/.test(link.reason ?? '')
    if (isRefused) throw new ManyhostError('MANYHOST_WIRE_AUTH', error.message, { cause: error })
    throw error
  } finally {
    signal?.removeEventListener('abort', onAbort)
  }
}
