/** Two connections made one: bytes both ways, each end's end and each end's failure passed on to the other. */
import { connect, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { watchHalfClosedTunnel } from '../../src/core/http/half-close.ts'
import { readToEnd } from '../../src/core/http/read-to-end.ts'
import { after, afterUnref } from '../../src/core/time.ts'

/** For a connection on the same machine, in ms. */
const CONNECT_TIMEOUT = 10_000

/** For what is still to be written to a server when its lane has ended, in ms. */
const FLUSH_TIMEOUT = 60_000

export interface InstanceAddress {
  readonly host?: string
  readonly port?: number
  readonly path?: string
}

/** Where a running instance listens, by the address that its provider gives people. */
export function parseInstanceAddress(address: string | undefined): InstanceAddress | undefined {
  if (address?.startsWith('unix:')) return { path: address.slice(5) }
  if (!address || !URL.canParse(address)) return undefined
  const { protocol, hostname, port } = new URL(address)
  if (protocol !== 'http:') return undefined
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 80) }
}

/** A connection to an instance, on which nothing was read yet. */
export function connectInstance(address: InstanceAddress): Promise<Socket> {
  return new Promise((resolve, reject) => {
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
  })
}

/**
 * @param onEnd told before the lane ends, how the server has ended its connection: properly, or by breaking it. The lane's own end
 * is the same for both, because what the server has sent comes first: it may be a whole answer.
 */
export function splice(tunnel: Duplex, local: Socket, onEnd: (isProper: boolean) => void): void {
  let isTold = false
  /** The server's end is told once, and then passed on: what breaks behind it is of no interest. */
  const tell = (isProper: boolean): void => {
    if (isTold) return
    isTold = true
    onEnd(isProper)
    tunnel.end()
  }
  tunnel.on('error', () => local.destroy())
  local.on('error', () => tell(false))
  readToEnd(local, tell)
  tunnel.once('end', () => {
    local.end()
    // The hub may be gone: nothing else would say so while the server is silent.
    watchHalfClosedTunnel(tunnel)
  })
  tunnel.once('close', () => {
    if (!tunnel.readableEnded || tunnel.errored || local.writableFinished)
      return void local.destroy()
    // What the hub has sent to its end may still be on its way to a server that reads slowly.
    const timer = afterUnref(FLUSH_TIMEOUT, () => local.destroy())
    local.once('finish', () => local.destroy())
    local.once('close', () => timer.clear())
  })
  local.once('close', () => {
    if (!tunnel.writableEnded) return void tunnel.destroy()
    // What is still on its way to the hub is left to flow, and what comes from there is for nobody.
    tunnel.resume()
  })
  local.pipe(tunnel, { end: false })
  tunnel.pipe(local, { end: false })
}
