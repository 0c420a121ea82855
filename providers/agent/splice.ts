/** Joins two connections into one: bytes go both ways, and so do the end and the failure of each connection. */
import { connect, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { deferred } from '../../src/core/deferred.ts'
import { watchHalfClosedTunnel } from '../../src/core/http/half-close.ts'
import { readToEnd } from '../../src/core/http/read-to-end.ts'
import { after, afterUnref } from '../../src/core/time.ts'

/** For a connection within this machine, in ms. */
const CONNECT_TIMEOUT = 10_000

/** For bytes that are still to be written to the server when its tunnel has ended, in ms. */
const FLUSH_TIMEOUT = 60_000

export interface InstanceAddress {
  readonly host?: string
  readonly port?: number
  readonly path?: string
}

/** Where an instance listens, from the address that its provider gives; undefined for any other text. */
export function parseInstanceAddress(address: string | undefined): InstanceAddress | undefined {
  if (address?.startsWith('unix:')) return { path: address.slice(5) }
  if (!address || !URL.canParse(address)) return undefined
  const { protocol, hostname, port } = new URL(address)
  if (protocol !== 'http:') return undefined
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 80) }
}

/** Connects to an instance. Nothing is read from the connection yet. */
export function connectInstance(address: InstanceAddress): Promise<Socket> {
  const { promise, resolve, reject } = deferred<Socket>()
  const target =
    address.path === undefined ? { host: address.host, port: address.port ?? 0 } : address
  const socket = connect({ ...target, allowHalfOpen: true, noDelay: true } as never)
  const fail = (error: Error): void => {
    timer.clear()
    socket.destroy()
    reject(error)
  }
  const timer = after(CONNECT_TIMEOUT, () =>
    fail(Object.assign(new Error('connect ETIMEDOUT'), { code: 'ETIMEDOUT' })),
  )
  socket.once('error', fail)
  socket.once('connect', () => {
    timer.clear()
    socket.off('error', fail)
    resolve(socket)
  })
  return promise
}

/**
 * @param onServerEnd called once, before the tunnel ends, with whether the server has ended its connection properly. The
 * tunnel itself ends in the same way in both cases, and is not reset: the bytes that the server has sent must arrive first,
 * because they may be a whole response.
 */
export function splice(
  tunnel: Duplex,
  local: Socket,
  onServerEnd: (isProper: boolean) => void,
): void {
  let hasServerEnded = false
  /** Only the first end counts: errors of the connection after its end do not change the response. */
  const endTunnel = (isProper: boolean): void => {
    if (hasServerEnded) return
    hasServerEnded = true
    onServerEnd(isProper)
    tunnel.end()
  }
  tunnel.on('error', () => local.destroy())
  local.on('error', () => endTunnel(false))
  readToEnd(local, endTunnel)
  tunnel.once('end', () => {
    local.end()
    // The hub may be gone. While the server is silent, nothing else would show that.
    watchHalfClosedTunnel(tunnel)
  })
  tunnel.once('close', () => {
    if (!tunnel.readableEnded || tunnel.errored || local.writableFinished)
      return void local.destroy()
    // The hub has sent all of it, and a server that reads slowly has not read all of it yet.
    const timer = afterUnref(FLUSH_TIMEOUT, () => local.destroy())
    local.once('finish', () => local.destroy())
    local.once('close', () => timer.clear())
  })
  local.once('close', () => {
    if (!tunnel.writableEnded) return void tunnel.destroy()
    // Bytes on their way to the hub still arrive there. Bytes from the hub are read and dropped.
    tunnel.resume()
  })
  local.pipe(tunnel, { end: false })
  tunnel.pipe(local, { end: false })
}
