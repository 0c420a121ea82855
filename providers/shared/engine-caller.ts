/**
 * Calls to an engine that may be away for a while: each is bounded in time, and one that could not reach it is made again
 * while somebody waits for it. So a call must be one that may be made twice.
 */
import { asError, type ManyhostError } from '../../src/core/errors.ts'
import { now, resolveWithin, sleep } from '../../src/core/time.ts'

/** How long a call is made again for whom nobody waits, in ms. */
const DEFAULT_RETRY_MS = 60_000
/** First and longest pause between two tries, in ms. */
const MIN_RETRY_PAUSE = 20
const MAX_RETRY_PAUSE = 500

/** What the system says of somebody who is not there, or has gone. */
const UNREACHABLE_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
])

export interface EngineCallOptions {
  /** Who waits: when it is aborted, no further try is made. */
  readonly signal?: AbortSignal
  /** How long it is tried again while the engine cannot be reached, in ms. @default 60000 */
  readonly retryMs?: number
  /** How long each try may take, in ms. */
  readonly timeoutMs?: number
}

export interface EngineCallerOptions {
  /** How long each try may take where the call does not say, in ms. */
  readonly timeoutMs: number
  /** Whether an error means that the engine was not reached. */
  isUnreachableError(error: Error): boolean
  /** What a call fails with that could not reach it. */
  createUnreachableError(what: string, cause: Error): ManyhostError
}

export class EngineCaller {
  /** Whether the last call did not reach it. */
  isUnreachable = false
  readonly #options: EngineCallerOptions
  readonly #closing = new AbortController()
  #wasReached = false

  constructor(manner: EngineCallerOptions) {
    this.#options = manner
  }

  /** @throws what `manner.unreachable` makes when the engine cannot be reached; otherwise what `action` throws */
  async call<T>(
    what: string,
    action: (cut: AbortSignal) => Promise<T>,
    {
      signal,
      retryMs: patience = DEFAULT_RETRY_MS,
      timeoutMs: timeout = this.#options.timeoutMs,
    }: EngineCallOptions = {},
  ): Promise<T> {
    const begun = now()
    for (let pause = MIN_RETRY_PAUSE; ; pause = Math.min(2 * pause, MAX_RETRY_PAUSE)) {
      try {
        const result = await withTimeout(what, action, timeout)
        this.isUnreachable = false
        this.#wasReached = true
        return result
      } catch (thrown) {
        const error = asError(thrown)
        if (!this.#options.isUnreachableError(error)) throw error
        this.isUnreachable = true
        const isOver = now() - begun >= patience || this.#closing.signal.aborted
        // One that was never there is a mistake in the options rather than a fault.
        if (isOver || signal?.aborted || !this.#wasReached) {
          throw this.#options.createUnreachableError(what, error)
        }
        const ends = [this.#closing.signal, ...(signal ? [signal] : [])]
        await sleep(pause, AbortSignal.any(ends)).catch(() => undefined)
        if (signal?.aborted) throw this.#options.createUnreachableError(what, error)
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
    UNREACHABLE_CODES.has(String(code)) ||
    /socket hang up|aborted|network timeout/.test(error.message)
  )
}

/** The error of a call that took longer than `timeout` ms. */
export function createTimeoutError(what: string, timeoutMs: number): Error {
  return Object.assign(new Error(`${what} took longer than ${timeoutMs} ms`), { code: 'ETIMEDOUT' })
}

async function withTimeout<T>(
  what: string,
  action: (cut: AbortSignal) => Promise<T>,
  timeoutMs: number,
): Promise<T> {
  const cut = new AbortController()
  const done = action(cut.signal).then((result) => ({ result }))
  const settled = await resolveWithin(timeoutMs, done)
  if (settled) return settled.result
  cut.abort()
  done.catch(() => undefined)
  throw createTimeoutError(what, timeoutMs)
}
