/**
 * Calls to an engine that may be unreachable for some time. Each try is bounded in time, and a call that did not reach the
 * engine is made again while somebody waits for it. So a call must be safe to make twice.
 */
import { exponentialDelay } from '../../src/core/backoff.ts'
import { asError, type ManyhostError } from '../../src/core/errors.ts'
import { now, resolveWithin, sleep } from '../../src/core/time.ts'

/** How long a call without `retryMs` is made again, in ms. */
const DEFAULT_RETRY_MS = 60_000
/** The pause between two tries, in ms. */
const RETRY_PAUSE = { min: 20, max: 500 }

/** The codes of the system for a peer that does not exist, or that has gone. */
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
  /** When it is aborted, no further try is made. */
  readonly signal?: AbortSignal
  /** How long the call is tried again while the engine cannot be reached, in ms. @default 60000 */
  readonly retryMs?: number
  /** Longest time of each try, in ms. @default that of the EngineCaller */
  readonly timeoutMs?: number
}

export interface EngineCallerOptions {
  /** Longest time of each try, if the call does not say, in ms. */
  readonly timeoutMs: number
  /** Whether an error means that the engine was not reached. */
  isUnreachableError(error: Error): boolean
  /** Makes the error of a call that could not reach the engine. */
  createUnreachableError(what: string, cause: Error): ManyhostError
}

export class EngineCaller {
  /** Whether the last call did not reach the engine. */
  isUnreachable = false
  readonly #options: EngineCallerOptions
  readonly #closing = new AbortController()
  #wasReached = false

  constructor(options: EngineCallerOptions) {
    this.#options = options
  }

  /** @throws the error of `createUnreachableError` when the engine cannot be reached; otherwise the error of `action` */
  async call<T>(
    what: string,
    action: (cut: AbortSignal) => Promise<T>,
    {
      signal,
      retryMs = DEFAULT_RETRY_MS,
      timeoutMs = this.#options.timeoutMs,
    }: EngineCallOptions = {},
  ): Promise<T> {
    const begun = now()
    for (let failures = 0; ; failures++) {
      try {
        const result = await withTimeout(what, action, timeoutMs)
        this.isUnreachable = false
        this.#wasReached = true
        return result
      } catch (thrown) {
        const error = asError(thrown)
        if (!this.#options.isUnreachableError(error)) throw error
        this.isUnreachable = true
        const isOver = now() - begun >= retryMs || this.#closing.signal.aborted
        // An engine that was never reached is a mistake in the options rather than a fault of the engine.
        if (isOver || signal?.aborted || !this.#wasReached) {
          throw this.#options.createUnreachableError(what, error)
        }
        const ends = [this.#closing.signal, ...(signal ? [signal] : [])]
        await sleep(exponentialDelay(failures, RETRY_PAUSE), AbortSignal.any(ends)).catch(
          () => undefined,
        )
        if (signal?.aborted) throw this.#options.createUnreachableError(what, error)
      }
    }
  }

  /** From now on no call is tried again. */
  close(): void {
    this.#closing.abort()
  }
}

/** Whether the error means that the engine was not reached. */
export function isConnectionError(error: Error): boolean {
  const { code } = error as { code?: unknown }
  // A connection that ends before the response has no code: only the text of its error says so.
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
