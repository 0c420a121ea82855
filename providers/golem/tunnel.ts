/**
 * Connections to a rented machine. Each is a websocket of the daemon, which carries the bytes of one TCP connection
 * through the private network. The TCP proxy of golem-js does the same, but with a local port that others could use.
 */
import type { Duplex } from 'node:stream'
import type { buildConnector } from 'undici'
import type { WebSocket } from 'ws'
import { every } from '../../src/core/time.ts'
import { probeOnce } from '../shared/endpoint.ts'
import { closeWhenSilent } from '../shared/websocket-half-close.ts'
import type { GolemPackages } from './packages.ts'

/** How long the daemon and the machine may take to accept, in ms. */
const HANDSHAKE_TIMEOUT = 30_000

/** Interval at which the daemon is asked whether it is still there, in ms. */
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
      // undici uses nothing of a socket that such a stream does not have.
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
  // The default would close the websocket, and so lose what the machine still sends.
  stream._final = (done) => {
    done()
    closeWhenSilent(stream, () => received)
  }
  return stream
}

/** Closes the websocket when the daemon, or the network to it, is gone: that gives no event. */
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

/** Connects once and closes the connection. Rejects when nobody accepts it. */
export function tunnelProbe(
  packages: GolemPackages,
  address: GolemTunnelAddress,
  signal: AbortSignal,
): Promise<void> {
  return probeOnce(signal, {
    open: () => openWebSocket(packages, address),
    openEvent: 'open',
    close: (socket) => socket.terminate(),
  })
}
