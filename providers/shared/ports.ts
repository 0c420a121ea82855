/**
 * Listen addresses that nobody else gets: two sessions, also of two processes, never hold the same one at a time.
 *
 * A port that was found free is free only until somebody takes it, and the server that it is meant for takes it
 * much later. So a port is claimed by a lock of ours, which the kernel lets go of however its owner ends, and it is
 * tried on top of that, for all the programs that know nothing of our locks.
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
  /** To be called when the server is gone. */
  release(): void
}

/** Resolves with what unlocks the port, or with nothing when it is locked. */
export type PortLock = (port: number) => Promise<(() => void) | undefined>

const defaultPortLock = process.platform === 'linux' ? lockByName : lockByDatagram

/** @throws ManyhostError MANYHOST_START_FAILED when the range is exhausted, or `host` is none of this machine's. */
export async function reservePort(
  host: string,
  [from, to]: PortRange,
  lock: PortLock = defaultPortLock,
): Promise<Reservation> {
  const count = to - from + 1
  // Anywhere in the range: two sessions that start together do not meet at every port, and one that was just
  // released, with connections still in TIME_WAIT, is seldom the next one taken.
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
    `no free port on ${host} in ${from}..${to}: ${locked} of ${count} held by manyhost instances, ` +
      `${count - locked} by other programs; option \`ports\` sets the range`,
  )
}

async function withPortError<T>(host: string, port: number, action: () => Promise<T>): Promise<T> {
  try {
    return await action()
  } catch (cause) {
    throw new ManyhostError(
      'MANYHOST_START_FAILED',
      `cannot reserve a port: ${host}:${port}: ${describeError(cause)}`,
      { cause },
    )
  }
}

/**
 * Abstract unix sockets leave nothing behind, and belong to a network namespace just as ports do. The name is
 * padded to the full 108 bytes because Node 20 does so by itself and newer versions do not: unpadded, sessions of
 * the two would not see each other's locks.
 */
async function lockByName(port: number): Promise<(() => void) | undefined> {
  return tryListen({ path: `\0manyhost-port-${port}`.padEnd(108, '\0') })
}

/** Elsewhere: UDP port N stands for TCP port N. Unlike a lock file it cannot go stale. */
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
  // Closing gives the port back within the call: 'close' needs not be awaited.
  close?.()
  return close !== undefined
}

function tryListen(where: ListenOptions): Promise<(() => void) | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy())
    server.once('error', (error) => (isTaken(error) ? resolve(undefined) : reject(error)))
    server.once('listening', () => resolve(() => server.close()))
    // `exclusive`: in a worker of node:cluster the socket would else be the primary's, shared by all workers.
    server.listen({ ...where, exclusive: true })
    server.unref()
  })
}

function isTaken(error: NodeJS.ErrnoException): boolean {
  return error.code === 'EADDRINUSE'
}

/** Longest path that fits in a socket address, in bytes, on every system. */
const MAX_SOCKET_PATH = 103

/** Unix sockets of one provider, in a folder that only its user can enter. */
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
        `the path of a unix socket has at most ${MAX_SOCKET_PATH} bytes, got ${socketPath}; set TMPDIR to a shorter path`,
      )
    }
    // Not `recursive`: a folder that is there already was made by somebody else.
    if (!this.#isCreated) mkdirSync(this.path, { mode: 0o700 })
    this.#isCreated = true
    return { listenOn: { socketPath }, release: () => rmSync(socketPath, { force: true }) }
  }

  remove(): void {
    if (this.#isCreated) rmSync(this.path, { recursive: true, force: true })
    this.#isCreated = false
  }
}
