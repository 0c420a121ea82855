/** One-time tickets: who comes over a new connection shows one, and gets what it was issued for. */
import { randomBytes } from 'node:crypto'
import { ManyhostError } from '../../src/core/errors.ts'
import { after, type Timer } from '../../src/core/time.ts'

interface IssuedToken<T> {
  /** Who may use it, as it has proved to be. */
  readonly ident: string | undefined
  readonly timer: Timer
  readonly resolve: (value: T) => void
  readonly fail: (error: Error) => void
}

export interface DialToken<T> {
  readonly id: string
  /** Resolves with what whoever used it brought. */
  readonly redeemed: Promise<T>
  fail(error: Error): void
}

export class DialTokens<T> {
  readonly #purpose: string
  readonly #issued = new Map<string, IssuedToken<T>>()

  /** @param what it is for, in messages */
  constructor(what: string) {
    this.#purpose = what
  }

  get size(): number {
    return this.#issued.size
  }

  issue(ident: string | undefined, timeout: number): DialToken<T> {
    const id = randomBytes(16).toString('hex')
    const used = new Promise<T>((take, reject) => {
      const fail = (error: Error): void => {
        timer.clear()
        this.#issued.delete(id)
        reject(error)
      }
      const timer = after(timeout, () =>
        fail(
          new ManyhostError(
            'MANYHOST_TIMEOUT',
            `${this.#purpose} did not come within ${timeout} ms`,
          ),
        ),
      )
      this.#issued.set(id, { ident, timer, resolve: take, fail })
    })
    return { id, redeemed: used, fail: (error) => this.#issued.get(id)?.fail(error) }
  }

  /** Hands out what it was issued for, once. Whether it was good. */
  redeem(id: string, ident: string | undefined, value: T): boolean {
    const issued = this.#issued.get(id)
    // The map's own look-up tells by its time nothing of use: 128 random bits that live for seconds, and one try each.
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
