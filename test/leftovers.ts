/** Asserts that a test file leaves nothing behind: no slot, request, socket, timer or child process. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import type { Socket } from 'node:net'
import { afterAll, beforeAll } from 'vitest'
import type { Cluster } from '../src/cluster/cluster.ts'
import { SessionCore } from '../src/session/session.ts'
import { waitUntil } from './help.ts'

/** How long a closed thing can take to end, in ms. Keep-alive timers and lingering connections end within this time. */
const MAX_WAIT_MS = 30_000

/** The real timers. Tests may replace the global functions by false ones, and put back what they found. */
const { setTimeout, setInterval, clearTimeout, clearInterval } = globalThis

/** Timers of src/core/time.ts, with the stack of the call that started each. */
const timers = new Map<unknown, Error>()
const clusters = new Set<Cluster>()

/**
 * To be called once at the top of a test file, before other calls of `afterAll`: hooks of that kind run in reverse
 * order, so this check comes last. It waits until everything has ended, and throws with a list of what has not.
 */
export function expectNothingLeft(): void {
  let before = { sockets: new Map<string, string>(), children: new Map<string, string>() }
  beforeAll(() => {
    watchTimers()
    watchSessions()
    before = { sockets: findSockets(), children: findChildren() }
  })
  afterAll(async () => {
    await waitUntil(() => {
      const left = describeLeftovers(before)
      if (left.length > 0) throw new Error(`the tests left behind:\n${left.join('\n')}`)
      return true
    }, MAX_WAIT_MS)
  })
}

/** Describes everything that exists now and did not exist before. */
function describeLeftovers(before: {
  readonly sockets: ReadonlyMap<string, string>
  readonly children: ReadonlyMap<string, string>
}): string[] {
  const left: string[] = []
  for (const cluster of clusters) {
    const { url, inFlight, requestQueue } = cluster
    if (inFlight > 0) left.push(`${inFlight} slots of ${url}`)
    if (requestQueue.size > 0) left.push(`${requestQueue.size} waiting requests of ${url}`)
  }
  for (const [inode, name] of findSockets()) if (!before.sockets.has(inode)) left.push(name)
  for (const [pid, name] of findChildren()) if (!before.children.has(pid)) left.push(name)
  for (const { stack = '' } of timers.values()) {
    const lines = stack.split('\n').filter((line) => /\bat /.test(line))
    const ours = lines.findIndex((line) => /\/src\/core\/time\.ts\b/.test(line))
    // Only timers of manyhost are counted, not those of tests and libraries.
    if (ours >= 0) left.push(`a timer: ${lines.slice(ours, ours + 5).map((line) => line.trim())}`)
  }
  return left
}

/** The sockets of this process by inode, also those without a JavaScript object. */
function findSockets(): Map<string, string> {
  const found = new Map<string, string>()
  const known = new Map<number, string>()
  for (const handle of activeHandles()) {
    const { _handle, localPort, remotePort } = handle
    if (_handle?.fd !== undefined) known.set(_handle.fd, `${localPort} to ${remotePort}`)
  }
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`)
      if (!target.startsWith('socket:')) continue
      found.set(target, `${target}, descriptor ${fd}, ${known.get(Number(fd)) ?? 'unknown ports'}`)
    } catch {
      // The descriptor was closed meanwhile, as that of the listing itself is.
    }
  }
  return found
}

type Handle = Partial<Socket> & { readonly _handle?: { readonly fd?: number } | null }

function activeHandles(): Handle[] {
  return (process as { _getActiveHandles?(): Handle[] })._getActiveHandles?.() ?? []
}

/** Whether a server of this process still has the connection from this port. */
export function isConnectedFrom(port: number | undefined): boolean {
  return activeHandles().some(({ remotePort }) => remotePort !== undefined && remotePort === port)
}

/** The living child processes by pid. */
function findChildren(): Map<string, string> {
  const found = new Map<string, string>()
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    try {
      const [, name, state, parent] =
        /^\d+ \((.*)\) (\S) (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, 'latin1')) ?? []
      if (Number(parent) !== process.pid || state === 'Z' || state === 'X') continue
      const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ')
      found.set(pid, `the child process ${pid} (${name}): ${command.slice(0, 200)}`)
    } catch {
      // The process has ended meanwhile.
    }
  }
  return found
}

/** Records timers. src/core/time.ts reads the global functions at each call, so it uses these. */
function watchTimers(): void {
  const recordStart = <T extends (callback: () => void, ...rest: never[]) => unknown>(
    start: T,
    isOnce: boolean,
  ): T => {
    const wrapped = (callback: (...given: unknown[]) => void, ...rest: never[]): unknown => {
      const handle = start(
        (...given: unknown[]) => {
          if (isOnce) timers.delete(handle)
          callback(...given)
        },
        ...rest,
      )
      timers.set(handle, new Error('started here'))
      return handle
    }
    return Object.defineProperties(wrapped, Object.getOwnPropertyDescriptors(start)) as unknown as T
  }
  const recordClear = <T extends (handle: never) => void>(clear: T): T =>
    ((handle: never) => {
      timers.delete(handle)
      clear(handle)
    }) as T
  Object.assign(globalThis, {
    setTimeout: recordStart(setTimeout as never, true),
    setInterval: recordStart(setInterval as never, false),
    clearTimeout: recordClear(clearTimeout as never),
    clearInterval: recordClear(clearInterval as never),
  })
}

/** Records the cluster of every service, also after its end: a slot that was not released is still in use then. */
function watchSessions(): void {
  const { startup } = SessionCore.prototype
  SessionCore.prototype.startup = function (...given) {
    const cluster = startup.apply(this, given)
    clusters.add(cluster)
    return cluster
  }
}
