/** A loop that connects again and again until its work is done: what the field's programs each write by hand. */
import { asError, describeError, ManyhostError } from '../core/errors.ts'
import { milliseconds, parseOptions, rule, whole } from '../core/options.ts'
import { now, sleep } from '../core/time.ts'
import { listenerRule } from '../core/user-functions.ts'
import { dial } from './dial.ts'
import type { HostingEnd, PostingEnd } from './ends.ts'
import type { NamesFor } from './names-for.ts'
import { type DialOptions, parseWhere } from './options.ts'

export interface RetryInfo {
  /** Failures in a row, this one included. */
  readonly attempt: number
  readonly error: Error
  /** Milliseconds until the next attempt. */
  readonly delay: number
}

export interface ReconnectOptions {
  /** Milliseconds of the first wait, doubled with each failure in a row. @default 200 */
  minDelay?: number
  /** Most milliseconds of one wait. @default 30000 */
  maxDelay?: number
  /** Failures in a row after which it gives up. @default Infinity */
  maxAttempts?: number
  /** A link that lived as long as that, in ms, begins the count anew. @default 10000 */
  steadyAfter?: number
  /** Ends it: rejects with the signal's reason. */
  signal?: AbortSignal
  onRetry?: (retry: RetryInfo) => void
}

const RECONNECT_RULES = {
  minDelay: milliseconds(200),
  maxDelay: milliseconds(30_000),
  maxAttempts: whole(1, Number.POSITIVE_INFINITY),
  steadyAfter: milliseconds(10_000),
  signal: rule<AbortSignal>('an AbortSignal', undefined, (value) =>
    value instanceof AbortSignal ? value : undefined,
  ),
  onRetry: listenerRule<[retry: RetryInfo]>('a function', 'onRetry of withReconnect'),
}

/**
 * How long to wait after so many failures in a row: doubling, and anything between half and all of it, so that many
 * who lost the same peer do not come back at once ("equal jitter", AWS Architecture Blog 2015).
 */
export function backoffDelay(
  failures: number,
  minDelay: number,
  maxDelay: number,
  random: () => number,
): number {
  const most = Math.min(maxDelay, minDelay * 2 ** Math.min(failures - 1, 30))
  return most / 2 + (random() * most) / 2
}

/**
 * Runs `work` over a link, and again over a new one whenever the link ends before the work does: variables outside of
 * `work`, as the job at hand, stay as they are. `unacknowledged` are the jobs of conversations that the peer of the last
 * link did not acknowledge, oldest first (`co({ job })`, or the code of `notif`): they may have been done or not.
 * Errors of the work itself, and errors that another attempt cannot mend, are thrown.
 * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_WIRE_AUTH, MANYHOST_WIRE_CLOSED after `maxAttempts`
 */
export async function withReconnect<T>(
  where: string | DialOptions,
  names: NamesFor,
  work: (po: PostingEnd, ho: HostingEnd, unacknowledged: readonly unknown[]) => T | Promise<T>,
  options: ReconnectOptions = {},
): Promise<T> {
  const { minDelay, maxDelay, maxAttempts, steadyAfter, signal, onRetry } = parseOptions(
    'withReconnect',
    options,
    RECONNECT_RULES,
  )
  let unacknowledged: unknown[] = []
  let failures = 0
  for (;;) {
    signal?.throwIfAborted()
    const begun = now()
    let ends: Awaited<ReturnType<typeof dial>> | undefined
    try {
      ends = await dial({ ...parseWhere<DialOptions>(where), ...(signal && { signal }) }, names)
      const result = await raceWithLinkEnd(
        ends.po,
        () => work(ends?.po as PostingEnd, ends?.ho as HostingEnd, unacknowledged),
        signal,
      )
      // What was only begun is to be done as well: the work is not over before the peer has said so.
      await ends.po.waitCompleted()
      await ends.po.disconnect()
      return result
    } catch (thrown) {
      const error = asError(thrown)
      const isLost = ends ? !ends.po.isConnected : isRetryable(error)
      if (ends) {
        unacknowledged = ends.po.unacknowledged()
        void ends.po.disconnect()
      }
      signal?.throwIfAborted()
      if (!isLost || !isRetryable(error)) throw error
      failures = ends && now() - begun >= steadyAfter ? 1 : failures + 1
      if (failures >= maxAttempts) {
        const message = `given up after ${failures} failures in a row: ${describeError(error)}`
        throw new ManyhostError('MANYHOST_WIRE_CLOSED', message, { cause: error })
      }
      const delay = backoffDelay(failures, minDelay, maxDelay, Math.random)
      onRetry?.({ attempt: failures, error, delay })
      await sleep(delay, signal)
    }
  }
}

/** The work's outcome, or the link's end: work that waits for something else must not miss it. */
async function raceWithLinkEnd<T>(
  po: PostingEnd,
  work: () => T | Promise<T>,
  signal: AbortSignal | undefined,
): Promise<T> {
  const onAbort = (): void => void po.disconnect()
  signal?.addEventListener('abort', onAbort, { once: true })
  const lost = po.waitDisconnected().then((reason) => {
    throw new ManyhostError('MANYHOST_WIRE_CLOSED', `the link ended${reason ? `: ${reason}` : ''}`)
  })
  // The link ends after the work as well, when nobody waits for that any more.
  lost.catch(() => {})
  try {
    return await Promise.race([work(), lost])
  } finally {
    signal?.removeEventListener('abort', onAbort)
  }
}

function isRetryable(error: Error): boolean {
  if (!(error instanceof ManyhostError)) return false
  return error.code === 'MANYHOST_WIRE_CLOSED' || error.code === 'MANYHOST_TIMEOUT'
}
