/**
 * Calls functions that a user has given. If such a function throws, if its promise rejects, or if it returns what it must not,
 * this is reported once, and a default takes its place. Further reports would say nothing new, as a function that fails once
 * usually fails at each request, and they would cost more than the request.
 */

import { describe } from './describe.ts'
import { asError, describeError, ManyhostError } from './errors.ts'
import { type Rule, rule } from './options.ts'

/** Takes the report of a failed function. It does not throw. */
export type ErrorReporter = (error: ManyhostError) => void

/** For functions that belong to no session. No event can report them, so the report is a warning of the process. */
export const emitWarning: ErrorReporter = (error) =>
  process.emitWarning(error.message, { type: 'ManyhostWarning', code: error.code })

export interface GuardedFunctionInfo {
  /** The function and where it was given, for the report: `the balance of http://calc`. */
  readonly what: string
  /** What happens instead, for the report: `least-in-flight is used`. */
  readonly instead: string
  /** @default a warning of the process */
  readonly report?: ErrorReporter | undefined
  /** Virtual URL of the service, where the function belongs to one. */
  readonly service?: string | undefined
}

/** Reports the first failure of one function, and no other. */
export class FirstFailureReporter {
  readonly #info: GuardedFunctionInfo
  #isReported = false

  constructor(info: GuardedFunctionInfo) {
    this.#info = info
  }

  /** Reports that the function threw, or that its promise was rejected. */
  reportThrown(thrown: unknown): void {
    if (!this.#isReported) this.#report(`threw: ${describeError(thrown)}`, thrown)
  }

  /** Reports a wrong return value. If it is a promise, its rejection must not end the process. */
  reportAnswer(value: unknown, wanted: string): void {
    catchRejection(value, () => undefined)
    if (!this.#isReported) this.#report(`answered ${describe(value)}; it must answer ${wanted}`)
  }

  /** Reports that the promise of the function has not settled in time. */
  reportStall(ms: number): void {
    if (!this.#isReported) this.#report(`has not ended within ${ms} ms`)
  }

  /** Calls a function whose return value does not matter. */
  run(call: () => unknown): void {
    try {
      catchRejection(call(), (error) => this.reportThrown(error))
    } catch (error) {
      this.reportThrown(error)
    }
  }

  /** Calls a function that returns an undo function, such as an unsubscribe. @returns that function, or one that does nothing */
  runUndoable(call: () => unknown): () => void {
    let undo: unknown
    this.run(() => {
      undo = call()
      return undo
    })
    return () => {
      if (typeof undo === 'function') this.run(undo as () => unknown)
    }
  }

  #report(how: string, cause?: unknown): void {
    this.#isReported = true
    const { what, instead, report = emitWarning, service } = this.#info
    report(
      new ManyhostError(
        'MANYHOST_FUNCTION_FAILED',
        `${what} ${how}. Instead, ${instead}. This is reported once`,
        { ...(cause !== undefined && { cause: asError(cause) }), ...(service && { service }) },
      ),
    )
  }
}

/** Handles the rejection of a value that may be a promise, so that it does not end the process. Never throws. */
export function catchRejection(value: unknown, onRejected: (error: unknown) => void): void {
  if (typeof value !== 'object' || value === null) return
  try {
    if (value instanceof Promise) value.catch(onRejected)
    else if ('then' in value && typeof value.then === 'function') {
      Promise.resolve(value as PromiseLike<unknown>).catch(onRejected)
    }
  } catch (error) {
    onRejected(error)
  }
}

export interface GuardedFunctionRule<Args extends readonly unknown[], Answer>
  extends GuardedFunctionInfo {
  /** What the function must return, for the report: `an index of a candidate`. */
  readonly wanted: string
  /** Checks and converts what the function has returned; undefined if that is not valid. May throw. */
  readonly read: (value: unknown, ...args: Args) => Answer | undefined
  readonly fallback: (...args: Args) => Answer
}

/** A function that is called like `given`, and returns the value of `fallback` whenever `given` fails. Never throws. */
export function guardFunction<Args extends readonly unknown[], Answer>(
  given: (...args: Args) => unknown,
  rule: GuardedFunctionRule<Args, Answer>,
): (...args: Args) => Answer {
  const { read, fallback, wanted } = rule
  const failure = new FirstFailureReporter(rule)
  return (...args) => {
    let value: unknown
    try {
      value = given(...args)
      const answer = read(value, ...args)
      if (answer !== undefined) return answer
      failure.reportAnswer(value, wanted)
    } catch (error) {
      failure.reportThrown(error)
      catchRejection(value, () => undefined)
    }
    return fallback(...args)
  }
}

/** A source of random numbers that a user may have given. */
export function guardRandom(
  given: (() => number) | undefined,
  info: Omit<GuardedFunctionInfo, 'instead'>,
): () => number {
  if (!given) return Math.random
  return guardFunction<[], number>(given, {
    ...info,
    instead: 'Math.random is used',
    wanted: 'a number from 0 up and below 1',
    // 1 is the most common mistake, and the callers work with it.
    read: (value) => (typeof value === 'number' && value >= 0 && value <= 1 ? value : undefined),
    fallback: Math.random,
  })
}

/**
 * The rule of an option that is a listener: a function whose return value does not matter. A failure is reported once, as a
 * warning of the process, and changes nothing else. The parsed function never throws.
 */
export function listenerRule<Args extends readonly unknown[]>(
  range: string,
  what: string,
): Rule<(...args: Args) => void> {
  return rule<(...args: Args) => void>(range, undefined, (value) => {
    if (typeof value !== 'function') return undefined
    const failure = new FirstFailureReporter({ what, instead: 'its failure is ignored' })
    return (...args) => failure.run(() => value(...args))
  })
}
