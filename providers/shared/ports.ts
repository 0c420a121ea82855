/**
 * Reserves addresses to listen on: two sessions, also of two processes, never have the same address at the same time.
 *
 * A port that was found free may be taken before its server listens, which is much later. So a port is reserved by a lock
 * of ours, which the kernel releases however its owner ends. The port is also tried, because other programs do not know
 * our locks.
 */
import { createSocket } from 'node:dgram'
import { mkdirSync, rmSync } from 'node:fs'
import { createServer, type ListenOptions } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import type { ListenOn } from '../../src/core/provider.ts'

/** First and last port, both included. */
export type PortRange = readonly [from: number, to: number]

export interface Reservation {
  readonly listenOn: ListenOn
  /** Call this when the server is gone. */
  release(): void
}

/** Resolves with a function that unlocks the port, or with undefined if somebody else has locked it. */
export type PortLock = (port: number) => Promise<(() => void) | undefined>

const defaultPortLock = process.platform === 'linux' ? lockByName : lockByDatagram

/** @throws ManyhostError MANYHOST_START_FAILED if no port of the range is free, or if `host` is no address of this machine */
export async function reservePort(
  host: string,
  [from, to]: PortRange,
  lock: PortLock = defaultPortLock,
): Promise<Reservation> {
  const count = to - from + 1
  // From a random port on, for two reasons: sessions that start together do not try the same ports in the same order, and
  // a port that was just released, with connections in TIME_WAIT, is seldom the next one.
  const start = Math.floor(Math.random() * count)
  let locked = 0
  for (let i = 0; i < count; i++) {
    const port = from + ((start + i) % count)
    const release = await withPortError(host, port, () => lock(port))
    if (!release) {
      locked++
      continue
    }
    try {
      if (await withPortError(host, port, () => canListen(host, port))) {
        return { listenOn: { host, port }, release }
      }
    } catch (error) {
      release()
      throw error
    }
    release()
  }
  throw new ManyhostError(
    'MANYHOST_START_FAILED',
    `no free port on ${host} in ${from}..${to}: manyhost instances have ${locked} of ${count} ports, ` +
      `other programs have ${count - locked}; option \`ports\` sets the range`,
  )
}

async function withPortError<T>(host: string, port: number, action: () => Promise<T>): Promise<T> {
  try {
    return await action()
  } catch (cause) {
    throw new ManyhostError(
      'MANYHOST_START_FAILED',
      `cannot reserve port ${port} of ${host}: ${describeError(cause)}`,
      { cause },
    )
  }
}

/**
 * A lock is an abstract unix socket: it leaves nothing behind, and it belongs to a network namespace, as ports do. The name
 * is padded to the full 108 bytes, because Node 20 does so by itself and newer versions do not. Without that, sessions on
 * different versions would not see each other's locks.
 */
async function lockByName(port: number): Promise<(() => void) | undefined> {
  return tryListen({ path: `\0manyhost-port-${port}`.padEnd(108, '\0') })
}

/** For other systems: the UDP port N is the lock of the TCP port N. Unlike a lock file, it cannot be left behind. */
export function lockByDatagram(port: number): Promise<(() => void) | undefined> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4')
    socket.once('error', (error) => (isTaken(error) ? resolve(undefined) : reject(error)))
    socket.once('listening', () => resolve(() => socket.close()))
    socket.bind({ address: '127.0.0.1', port, exclusive: true })
    socket.unref()
  })
}

async function canListen(host: string, port: number): Promise<boolean> {
  const close = await tryListen({ host, port })
  // The port is free again when `close` returns: 'close' need not be awaited.
  close?.()
  return close !== undefined
}

function tryListen(where: ListenOptions): Promise<(() => void) | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy())
    server.once('error', (error) => (isTaken(error) ? resolve(undefined) : reject(error)))
    server.once('listening', () => resolve(() => server.close()))
    // `exclusive`: otherwise, in a worker of node:cluster, the primary would share the socket with all workers.
    server.listen({ ...where, exclusive: true })
    server.unref()
  })
}

function isTaken(error: NodeJS.ErrnoException): boolean {
  return error.code === 'EADDRINUSE'
}

/** Longest path of a unix socket, in bytes, on every system. */
const MAX_SOCKET_PATH = 103

/** The unix sockets of one provider, in a folder that only its user can enter. */
export class SocketFolder {
  readonly path: string
  #isCreated = false
  #lastSocket = 0

  constructor(name: string) {
    this.path = join(tmpdir(), name)
  }

  reserve(): Reservation {
    const socketPath = join(this.path, `${++this.#lastSocket}.sock`)
    if (Buffer.byteLength(socketPath) > MAX_SOCKET_PATH) {
      throw new ManyhostError(
        'MANYHOST_START_FAILED',
        `the path of a unix socket may have ${MAX_SOCKET_PATH} bytes, got ${socketPath}; set TMPDIR to a shorter path`,
      )
    }
    // Not `recursive`: a folder that exists already was made by somebody else, so this must fail.
    if (!this.#isCreated) mkdirSync(this.path, { mode: 0o700 })
    this.#isCreated = true
    return { listenOn: { socketPath }, release: () => rmSync(socketPath, { force: true }) }
  }

  remove(): void {
    if (this.#isCreated) rmSync(this.path, { recursive: true, force: true })
    this.#isCreated = false
  }
}
