/**
 * Connections to a rented machine: each is a websocket of the daemon, which carries the bytes of one TCP connection
 * through the private network. It is what golem-js's TCP proxy does, without a local port that others could use.
 */
import type { Duplex } from 'node:stream'
import type { buildConnector } from 'undici'
import type { WebSocket } from 'ws'
import { asError } from '../../src/core/errors.ts'
import { every } from '../../src/core/time.ts'
import { closeWhenSilent } from '../shared/websocket-half-close.ts'
import type { GolemPackages } from './packages.ts'

/** How long the daemon and the machine may take to accept, in ms. */
const HANDSHAKE_TIMEOUT = 30_000

/** How often the daemon is asked whether it is still there, in ms. */
const HEARTBEAT_INTERVAL = 10_000

export interface GolemTunnelAddress {
  readonly uri: string
  readonly key: string
}

function openWebSocket({ ws }: GolemPackages, { uri, key }: GolemTunnelAddress): WebSocket {
  return new ws.WebSocket(uri, {
    headers: { authorization: `Bearer ${key}` },
    handshakeTimeout: HANDSHAKE_TIMEOUT,
    perMessageDeflate: false,
  })
}

/** For undici's option `connect`. */
export function createTunnelConnector(packages: GolemPackages, address: () => GolemTunnelAddress) {
  return (_: buildConnector.Options, callback: buildConnector.Callback): void => {
    const socket = openWebSocket(packages, address())
    const onError = (error: Error): void => callback(error, null)
    socket.once('error', onError)
    socket.once('open', () => {
      socket.off('error', onError)
      startHeartbeat(socket)
      const stream = createTunnelStream(packages, socket)
      // undici asks of a socket nothing that such a stream has not.
      callback(null, stream as Parameters<buildConnector.Callback>[1] & Duplex)
    })
  }
}

function createTunnelStream({ ws }: GolemPackages, socket: WebSocket): Duplex {
  let received = 0
  socket.on('message', (data) => {
    received += (data as Buffer).length
  })
  const stream: Duplex = ws.createWebSocketStream(socket)
  // It would close the websocket, and with it lose what the machine still has to say.
  stream._final = (done) => {
    done()
    closeWhenSilent(stream, () => received)
  }
  return stream
}

/** A daemon, or a network, that is gone says nothing. */
function startHeartbeat(socket: WebSocket): void {
  let isAlive = true
  const timer = every(HEARTBEAT_INTERVAL, () => {
    if (!isAlive) return socket.terminate()
    isAlive = false
    socket.ping()
  })
  socket.on('pong', () => {
    isAlive = true
  })
  socket.once('close', () => timer.clear())
}

/** Connects once and hangs up; rejects when nobody accepts. */
export function tunnelProbe(
  packages: GolemPackages,
  address: GolemTunnelAddress,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const socket = openWebSocket(packages, address)
    const onAbort = (): void => done(() => reject(signal.reason))
    const done = (settle: () => void): void => {
      signal.removeEventListener('abort', onAbort)
      socket.terminate()
      settle()
    }
    signal.addEventListener('abort', onAbort, { once: true })
    socket.once('open', () => done(resolve))
    // Not `once`: one that is terminated while it connects has one more to say.
    socket.on('error', (error) => done(() => reject(asError(error))))
  })
}
