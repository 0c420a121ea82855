/** One-time tokens. An agent that dials a new connection shows its token, which says what the connection is for. */
import { randomBytes } from 'node:crypto'
import { deferred } from '../../src/core/deferred.ts'
import { ManyhostError } from '../../src/core/errors.ts'
import { after, type Timer } from '../../src/core/time.ts'

interface IssuedToken<T> {
  /** The agent that may use the token, by the name that it has proved to have. */
  readonly ident: string | undefined
  readonly timer: Timer
  readonly resolve: (value: T) => void
  readonly fail: (error: Error) => void
}

export interface DialToken<T> {
  readonly id: string
  /** Resolves with the connection for which the token was used. */
  readonly redeemed: Promise<T>
  fail(error: Error): void
}

export class DialTokens<T> {
  readonly #purpose: string
  readonly #issued = new Map<string, IssuedToken<T>>()

  /** @param purpose what the tokens are for, in messages */
  constructor(purpose: string) {
    this.#purpose = purpose
  }

  get size(): number {
    return this.#issued.size
  }

  /** @param timeout milliseconds within which the token must be used */
  issue(ident: string | undefined, timeout: number): DialToken<T> {
    const id = randomBytes(16).toString('hex')
    const { promise: redeemed, resolve, reject } = deferred<T>()
    const fail = (error: Error): void => {
      timer.clear()
      this.#issued.delete(id)
      reject(error)
    }
    const timer = after(timeout, () => {
      const message = `${this.#purpose} did not come within ${timeout} ms`
      fail(new ManyhostError('MANYHOST_TIMEOUT', message))
    })
    this.#issued.set(id, { ident, timer, resolve, fail })
    return { id, redeemed, fail: (error) => this.#issued.get(id)?.fail(error) }
  }

  /** Gives `value` to the code that has issued the token. Works once. Returns whether the token was good. */
  redeem(id: string, ident: string | undefined, value: T): boolean {
    const issued = this.#issued.get(id)
    // The time of the map's look-up reveals nothing useful: a token has 128 random bits, lives for seconds, and each
    // connection has one try.
    if (!issued || issued.ident !== ident) return false
    issued.timer.clear()
    this.#issued.delete(id)
    issued.resolve(value)
    return true
  }

  fail(id: string, ident: string | undefined, error: Error): void {
    const issued = this.#issued.get(id)
    if (issued?.ident === ident) issued?.fail(error)
  }
}
