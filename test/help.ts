/** Helpers of tests of whole sessions: waiting, and servers that the test controls. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { inspect } from 'node:util'
import { onTestFinished } from 'vitest'
import { inProcess, type NodeHandler, type NodeRequest } from '../providers/testing/index.ts'
import type { ManyhostError, Session, SessionEvents } from '../src/index.ts'

/** The longest wait. It is far longer than anything takes, so only a hang reaches it. */
const MAX_WAIT_MS = 60_000

/** A tick interval that is longer than any test: what happens in the test does not come from a tick. */
export const NEVER = 3_600_000

/** The real clock, also in tests that use a false one. */
const { setTimeout: later } = globalThis
const clock = performance.now.bind(performance)

/** Answers a function that collects all garbage. */
export async function createCollector(): Promise<() => void> {
  const { setFlagsFromString } = await import('node:v8')
  const { runInNewContext } = await import('node:vm')
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as () => void
}

/** Answers a function that measures the bytes that this process holds, without garbage. Buffers are freed by the second `gc`. */
export async function createMemoryMeter(): Promise<() => number> {
  const gc = await createCollector()
  return () => {
    gc()
    gc()
    const { heapUsed, arrayBuffers } = process.memoryUsage()
    return heapUsed + arrayBuffers
  }
}

/** The command of a server that the tests share. Its file says what it does. */
export const service = ['node', resolve('test/fakes/service.mjs')]

/** `/pid?until=<file>` of a service is answered when the gate is open. The folder is removed after the test. */
export function createGate(): { readonly folder: string; readonly until: string; open(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-gate-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'open')
  return {
    folder,
    until: `until=${encodeURIComponent(file)}`,
    open: () => writeFileSync(file, ''),
  }
}

/**
 * Calls `ask` until it answers neither `false` nor an error, and resolves with the answer. After 60 s, or after the
 * milliseconds that `what` gives, it fails. The error says what was waited for and what was seen instead: the answer of
 * `seen`, or else the last error of `ask`.
 */
export async function waitUntil<T>(
  ask: () => T | false | Promise<T | false>,
  what: string | number = String(ask),
  seen?: () => unknown,
): Promise<T> {
  const start = clock()
  const timeout = typeof what === 'number' ? what : MAX_WAIT_MS
  for (;;) {
    let cause: unknown
    try {
      const answer = await ask()
      if (answer !== false) return answer
    } catch (error) {
      cause = error
    }
    const waited = clock() - start
    if (waited > timeout) {
      const awaited = typeof what === 'string' ? what : cause === undefined ? String(ask) : 'it'
      const last = seen ? inspect(seen()) : cause === undefined ? 'false' : String(cause)
      throw new Error(`waited ${timeout} ms for: ${awaited}; seen last: ${last}`, { cause })
    }
    // What takes long is asked less often: the programs that it waits for need the processor.
    await new Promise((wake) => later(wake, waited < 100 ? 1 : 10))
  }
}

/** The next event that `fits`. */
export function nextEvent<Name extends keyof SessionEvents>(
  session: Session,
  name: Name,
  fits: (event: SessionEvents[Name]) => boolean = () => true,
): Promise<SessionEvents[Name]> {
  return new Promise((take, reject) => {
    const timer = later(() => reject(new Error(`no ${name} event: ${fits}`)), MAX_WAIT_MS)
    const off = session.on(name, (event) => {
      if (!fits(event)) return
      clearTimeout(timer)
      off()
      take(event)
    })
  })
}

/** Records all events of a name from now on. */
export function recordEvents<Name extends keyof SessionEvents>(
  session: Session,
  name: Name,
): SessionEvents[Name][] {
  const events: SessionEvents[Name][] = []
  session.on(name, (event) => events.push(event))
  return events
}

/** Resolves with the error that a promise is rejected with. */
export function rejectionOf(promise: Promise<unknown>): Promise<ManyhostError> {
  return promise.then(
    () => Promise.reject(new Error('it was not rejected')),
    (error: ManyhostError) => error,
  )
}

/** Answers the error that a function throws. */
export function catchThrown(call: () => unknown): ManyhostError {
  try {
    call()
  } catch (error) {
    return error as ManyhostError
  }
  throw new Error('it threw nothing')
}

export interface Latch {
  readonly promise: Promise<void>
  open(): void
}

export function createLatch(): Latch {
  let open!: () => void
  const promise = new Promise<void>((take) => {
    open = take
  })
  return { promise, open }
}

/** Waits for some turns of the event loop: everything that happens only in memory is done after a few. */
export async function runEventLoop(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((take) => setImmediate(take))
}

/** A request `GET /name` that an in-process instance holds until the test answers it. */
export interface HeldRequest {
  readonly name: string
  readonly instance: string
  answer(status?: number): void
}

/** An in-process provider whose requests stay in `held` until they are answered; `/now...` is answered at once. */
export function createHoldingProvider(options: Parameters<typeof inProcess>[1] = {}) {
  const held: HeldRequest[] = []
  const seen: string[] = []
  const handler: NodeHandler = (req: NodeRequest, res) => {
    const name = req.url?.slice(1) ?? ''
    seen.push(name)
    if (name.startsWith('now')) return void res.end(name)
    const one: HeldRequest = {
      name,
      instance: req.instance,
      answer: (status = 200) => {
        drop()
        res.writeHead(status).end(name)
      },
    }
    const drop = (): void => {
      if (held.includes(one)) held.splice(held.indexOf(one), 1)
    }
    res.on('close', drop)
    held.push(one)
  }
  const provider = inProcess(handler, { ...options, style: 'node' } as object)
  return {
    provider,
    /** Requests that reached a handler and have no response yet, oldest first. */
    held,
    /** Names of all requests that reached a handler. */
    seen,
    /** Waits until `count` requests are held. */
    async holds(count: number): Promise<void> {
      await waitUntil(() => held.length === count, `${count} requests are held`)
    },
    /** Ends the oldest living instance abruptly. */
    kill(): void {
      const instance = provider.instances[0]
      instance?.kill()
      // Nobody receives the responses to its requests any more.
      const kept = held.filter((one) => one.instance !== instance?.id)
      held.splice(0, held.length, ...kept)
    },
  }
}

/** How many instances a service has in each state: `{ ready: 2 }`. */
export function countStates(session: Session, url: string): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { state } of session.cluster(url).instances) counts[state] = (counts[state] ?? 0) + 1
  return counts
}

export async function waitForReady(session: Session, url: string, count: number): Promise<void> {
  await waitUntil(
    () =>
      countStates(session, url).ready === count ||
      (count === 0 && !countStates(session, url).ready),
    `${count} ready at ${url}`,
  )
}

/** Pids of the processes that were started for instances with this in their name; zombies do not count. */
export function findInstancePids(instance: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && isProcessOfInstance(name, instance))
    .map(Number)
}

function isProcessOfInstance(pid: string, instance: string): boolean {
  try {
    if (/^\d+ \(.*\) [ZX] /s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))) return false
    return readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`MANYHOST_INSTANCE=${instance}`)
  } catch {
    return false
  }
}
