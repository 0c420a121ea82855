/**
 * Calls to an engine that may be away for a while: each is bounded in time, and one that could not reach it is made again
 * while somebody waits for it. So a call must be one that may be made twice.
 */
import { asError, type ManyhostError } from '../src/core/errors.ts'
import { now, sleep, within } from '../src/core/time.ts'

/** How long a call is made again for whom nobody waits, in ms. */
const PATIENCE = 60_000
/** First and longest pause between two tries, in ms. */
const PAUSE = 20
const MAX_PAUSE = 500

/** What the system says of somebody who is not there, or has gone. */
const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
])

export interface CallOptions {
  /** Who waits: when it is aborted, no further try is made. */
  readonly signal?: AbortSignal
  /** How long it is tried again while the engine cannot be reached, in ms. @default 60000 */
  readonly patience?: number
  /** How long each try may take, in ms. */
  readonly timeout?: number
}

export interface Manner {
  /** How long each try may take where the call does not say, in ms. */
  readonly timeout: number
  /** Whether an error means that the engine was not reached. */
  isUnreachable(error: Error): boolean
  /** What a call fails with that could not reach it. */
  unreachable(what: string, cause: Error): ManyhostError
}

export class Away {
  /** Whether the last call did not reach it. */
  isAway = false
  readonly #manner: Manner
  readonly #closing = new AbortController()
  #wasReached = false

  constructor(manner: Manner) {
    this.#manner = manner
  }

  /** @throws what `manner.unreachable` makes when the engine cannot be reached; otherwise what `action` throws */
  async call<T>(
    what: string,
    action: (cut: AbortSignal) => Promise<T>,
    { signal, patience = PATIENCE, timeout = this.#manner.timeout }: CallOptions = {},
  ): Promise<T> {
    const begun = now()
    for (let pause = PAUSE; ; pause = Math.min(2 * pause, MAX_PAUSE)) {
      try {
        const result = await timed(what, action, timeout)
        this.isAway = false
        this.#wasReached = true
        return result
      } catch (thrown) {
        const error = asError(thrown)
        if (!this.#manner.isUnreachable(error)) throw error
        this.isAway = true
        const isOver = now() - begun >= patience || this.#closing.signal.aborted
        // One that was never there is a mistake in the options rather than a fault.
        if (isOver || signal?.aborted || !this.#wasReached) {
          throw this.#manner.unreachable(what, error)
        }
        const ends = [this.#closing.signal, ...(signal ? [signal] : [])]
        await sleep(pause, AbortSignal.any(ends)).catch(() => undefined)
        if (signal?.aborted) throw this.#manner.unreachable(what, error)
      }
    }
  }

  /** No call is made again from now on. */
  close(): void {
    this.#closing.abort()
  }
}

/** Whether the system, or the connection, says that nobody was reached. */
export function isConnectionError(error: Error): boolean {
  const { code } = error as { code?: unknown }
  // A connection that ends before the answer is told by its text alone.
  return (
    UNREACHABLE.has(String(code)) || /socket hang up|aborted|network timeout/.test(error.message)
  )
}

/** The error of a call that took longer than `timeout` ms. */
export function late(what: string, timeout: number): Error {
  return Object.assign(new Error(`${what} took longer than ${timeout} ms`), { code: 'ETIMEDOUT' })
}

async function timed<T>(
  what: string,
  action: (cut: AbortSignal) => Promise<T>,
  timeout: number,
): Promise<T> {
  const cut = new AbortController()
  const done = action(cut.signal).then((result) => ({ result }))
  const settled = await within(timeout, done)
  if (settled) return settled.result
  cut.abort()
  done.catch(() => undefined)
  throw late(what, timeout)
}
