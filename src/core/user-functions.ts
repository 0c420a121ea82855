/**
 * How a function that a user gave is called. What it throws, what its promise is rejected with, and what it answers
 * that it may not, is reported once; then a default takes its place. A function that fails fails at each request, so
 * further reports would say nothing new, and would cost more than the request.
 */

import { describe } from './describe.ts'
import { asError, describeError, ManyhostError } from './errors.ts'
import { type Rule, rule } from './options.ts'

/** Takes the report of a failed function. It does not throw. */
export type ErrorReporter = (error: ManyhostError) => void

/** For functions that belong to no session: nobody listens to an event, so the report is a warning of the process. */
export const emitWarning: ErrorReporter = (error) =>
  process.emitWarning(error.message, { type: 'ManyhostWarning', code: error.code })

export interface GuardedFunctionInfo {
  /** Names the function, and where it was given: `the balance of http://calc`. */
  readonly what: string
  /** Says what happens instead: `least-in-flight is used`. */
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

  /** The function threw, or its promise was rejected. */
  reportThrown(thrown: unknown): void {
    if (!this.#isReported) this.#report(`threw: ${describeError(thrown)}`, thrown)
  }

  /** The function answered what it may not. A promise among such answers may be rejected later: nobody waits for it. */
  reportAnswer(value: unknown, wanted: string): void {
    catchRejection(value, () => undefined)
    if (!this.#isReported) this.#report(`answered ${describe(value)}; it must answer ${wanted}`)
  }

  /** The function has not settled in its time. */
  reportStall(ms: number): void {
    if (!this.#isReported) this.#report(`has not ended within ${ms} ms`)
  }

  /** Calls a function whose answer does not count. */
  run(call: () => unknown): void {
    try {
      catchRejection(call(), (error) => this.reportThrown(error))
    } catch (error) {
      this.reportThrown(error)
    }
  }

  /** Calls a function that answers how to undo what it did; what is answered here undoes it, where that can be. */
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

/** Hears of the rejection of whatever may be a promise, so that it does not end the process. Never throws. */
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
  /** For the report: `an index of a candidate`. */
  readonly wanted: string
  /** Makes the answer of what the function answered; undefined where that cannot be one. May throw. */
  readonly read: (value: unknown, ...args: Args) => Answer | undefined
  readonly fallback: (...args: Args) => Answer
}

/** A function that can be called like `given`, and that answers the default wherever `given` fails. */
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

/** A source of random numbers that a user gave. */
export function guardRandom(
  given: (() => number) | undefined,
  info: Omit<GuardedFunctionInfo, 'instead'>,
): () => number {
  if (!given) return Math.random
  return guardFunction<[], number>(given, {
    ...info,
    instead: 'Math.random is used',
    wanted: 'a number from 0 up and below 1',
    // With 1, which is the commonest slip, all that draws here still works.
    read: (value) => (typeof value === 'number' && value >= 0 && value <= 1 ? value : undefined),
    fallback: Math.random,
  })
}

/**
 * The rule of an option that is a function which is only told something: what it throws is reported once, as a warning,
 * and changes nothing. The parsed function never throws.
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
