/** Probes of instances: at short, growing intervals until an instance is ready, and at a fixed interval for its health. */
import type { Dispatcher } from 'undici'
import { settleOrAbort } from '../core/abort.ts'
import { isCompleteDespiteError } from '../core/connector.ts'
import { describeError, ManyhostError } from '../core/errors.ts'
import type { Running } from '../core/provider.ts'
import { after, now, sleep, type Timer } from '../core/time.ts'

const MIN_PROBE_INTERVAL = 1
const MAX_PROBE_INTERVAL = 100

/** Milliseconds before the next try: a twentieth of the time so far, so that readiness is noticed 5 % late at most. */
export function probeInterval(elapsed: number): number {
  return Math.min(MAX_PROBE_INTERVAL, Math.max(MIN_PROBE_INTERVAL, elapsed / 20))
}

/**
 * Resolves when the server accepts a connection and, where a path is given, answers it with 2xx.
 * Rejects with the signal's reason when that is aborted.
 */
export async function waitUntilInstanceReady(
  running: Running,
  { path, signal }: { path: string | undefined; signal: AbortSignal },
  failed: (error: unknown) => void = () => undefined,
): Promise<void> {
  const begun = now()
  for (;;) {
    signal.throwIfAborted()
    try {
      // A provider may ignore the signal.
      if (running.accepts) await settleOrAbort(running.accepts(signal), signal)
      if (path !== undefined) await httpProbe(running.dispatcher, path, 5_000, signal)
      return
    } catch (error) {
      if (!signal.aborted) failed(error)
    }
    await sleep(probeInterval(now() - begun), signal)
  }
}

/** Resolves when the server accepts a connection within `timeout` ms. Without `accepts`, it counts as accepting. */
export async function probeConnection(
  running: Running,
  timeout: number,
  signal: AbortSignal,
): Promise<void> {
  if (!running.accepts) return
  const late = (): ManyhostError =>
    new ManyhostError('MANYHOST_INSTANCE_UNHEALTHY', `no connection within ${timeout} ms`)
  await runWithTimeout(timeout, late, signal, (own) => running.accepts?.(own))
}

/** Resolves when a GET of `path` is answered with 2xx within `timeout` ms; rejects otherwise. */
export async function httpProbe(
  dispatcher: Dispatcher,
  path: string,
  timeout: number,
  signal: AbortSignal,
): Promise<void> {
  const unhealthy = (what: string): ManyhostError =>
    new ManyhostError('MANYHOST_INSTANCE_UNHEALTHY', `GET ${path}: ${what}`)
  const late = (): ManyhostError => unhealthy(`no answer within ${timeout} ms`)
  await runWithTimeout(timeout, late, signal, async (own) => {
    const { statusCode, body } = await dispatcher.request({ path, method: 'GET', signal: own })
    // An unread body would hold the connection, so it is read to its end.
    await body.dump().catch((error: Error) => {
      if (!isCompleteDespiteError(error, statusCode)) throw error
    })
    if (statusCode < 200 || statusCode > 299) {
      throw unhealthy(`status ${statusCode}, expected 2xx`)
    }
  })
}

/** Checks whether an instance serves again: it accepts a connection and, where a path is given, answers it with 2xx. */
export async function probeInstance(
  running: Running,
  path: string | undefined,
  timeout: number,
  signal: AbortSignal,
): Promise<void> {
  await probeConnection(running, timeout, signal)
  if (path !== undefined) await httpProbe(running.dispatcher, path, timeout, signal)
}

/** Runs `probe` with a signal that is aborted with the outer one, or after `timeout` ms. */
async function runWithTimeout(
  timeout: number,
  late: () => Error,
  signal: AbortSignal,
  probe: (own: AbortSignal) => Promise<void> | undefined,
): Promise<void> {
  const own = new AbortController()
  const give = (): void => own.abort(signal.reason)
  if (signal.aborted) give()
  signal.addEventListener('abort', give, { once: true })
  const timer = after(timeout, () => own.abort(late()))
  try {
    // undici heeds a signal only once the request is on a connection; a probe that waits for one has to end as well.
    await settleOrAbort(Promise.resolve(probe(own.signal)), own.signal)
  } finally {
    timer.clear()
    signal.removeEventListener('abort', give)
  }
}

export interface HealthChecks {
  close(): void
}

/** Runs `check` every `interval` ms, never two at once, and reports how many have failed in a row: 0 after a success. */
export function startHealthChecks(
  interval: number,
  check: () => Promise<void>,
  onResult: (failuresInARow: number, why: string) => void,
): HealthChecks {
  let failures = 0
  let closed = false
  let timer: Timer | undefined
  const again = (): void => {
    if (!closed) timer = after(interval, () => void run())
  }
  const run = async (): Promise<void> => {
    let why = ''
    try {
      await check()
      failures = 0
    } catch (error) {
      failures++
      why = describeError(error)
    }
    if (closed) return
    onResult(failures, why)
    again()
  }
  again()
  return {
    close: () => {
      closed = true
      timer?.clear()
    },
  }
}
