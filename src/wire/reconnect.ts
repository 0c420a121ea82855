/** A loop that reconnects until its work is done. */
import { backoffDelay } from '../core/backoff.ts'
import { asError, describeError, ManyhostError } from '../core/errors.ts'
import { milliseconds, parseOptions, whole } from '../core/options.ts'
import type { RulesOf } from '../core/rules-of.ts'
import { now, sleep } from '../core/time.ts'
import { listenerRule } from '../core/user-functions.ts'
import { dial } from './dial.ts'
import type { HostingEnd, PostingEnd } from './ends.ts'
import type { NamesFor } from './names-for.ts'
import { type DialOptions, parseWhere, signalRule } from './options.ts'

export interface RetryInfo {
  /** Failures in a row, including this one. */
  readonly attempt: number
  readonly error: Error
  /** Milliseconds until the next attempt. */
  readonly delay: number
}

export interface ReconnectOptions {
  /** Milliseconds of the first wait, doubled with each failure in a row. @default 200 */
  minDelay?: number
  /** Maximum milliseconds of one wait. @default 30000 */
  maxDelay?: number
  /** Failures in a row after which the loop gives up. @default Infinity */
  maxAttempts?: number
  /** After a link that lived at least this many milliseconds, the count of failures begins anew. @default 10000 */
  steadyAfter?: number
  /** Ends the loop, which rejects with the signal's reason. */
  signal?: AbortSignal
  /** Called before each wait. */
  onRetry?: (retry: RetryInfo) => void
}

const RECONNECT_RULES = {
  minDelay: milliseconds(200),
  maxDelay: milliseconds(30_000),
  maxAttempts: whole(1, Number.POSITIVE_INFINITY),
  steadyAfter: milliseconds(10_000),
  signal: signalRule,
  onRetry: listenerRule<[retry: RetryInfo]>('a function', 'onRetry of withReconnect'),
} satisfies RulesOf<ReconnectOptions>

/**
 * Runs `work` over a link, and runs it again over a new link whenever the link ends before the work does. Variables outside
 * of `work`, such as the current job, keep their values. `unacknowledged` are the jobs of conversations that the peer of
 * the last link did not acknowledge, oldest first (`co({ job })`, or the code of `notif`): the peer may have done them or
 * not. Errors of the work itself, and errors that another attempt would meet again, are thrown.
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
      // The work is over when the peer has acknowledged all conversations that it posted.
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
        const message = `gave up after ${failures} failures in a row: ${describeError(error)}`
        throw new ManyhostError('MANYHOST_WIRE_CLOSED', message, { cause: error })
      }
      const delay = backoffDelay(failures - 1, { min: minDelay, max: maxDelay }, Math.random)
      onRetry?.({ attempt: failures, error, delay })
      await sleep(delay, signal)
    }
  }
}

/** Settles as the work does, or rejects when the link ends: the work may be waiting for something else. */
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
  // The link ends after the work too, when no caller waits for this promise any more.
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
