/** The names that the peer may call and read: own properties of an object, never inherited ones. */
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import { catchRejection } from '../core/user-functions.ts'
import { createNotAllowedError } from './errors.ts'

/**
 * Functions that the peer may call, and values that it may read. Functions get landed arguments; keyword arguments become
 * one object behind the others. The result of a function, or of its promise, is sent back unless it is undefined.
 *
 * manyhost itself calls these names, and the peer cannot:
 * - `__hbi_init__(po, ho)` when the link is up
 * - `__hbi_cleanup__(po, ho, reason)` when the link has ended
 * - `__hbi_land__(code)` before code is landed; if it returns undefined, the code is landed as usual
 * - `hbi_peer_done()` when the peer will send no more
 * - `hbi_disconnecting(reason)` and `hbi_disconnected(reason)`
 */
export type Names = Readonly<Record<string, unknown>>

const MAX_NAME_LENGTH = 64
/** Maximum number of names that a peer may assign. */
const MAX_VARIABLES = 64
const RESERVED_NAMES = new Set(['hbi_peer_done', 'hbi_disconnecting', 'hbi_disconnected'])

/** The public methods of an object as names, bound to it. Names with `_` at the beginning are private. Includes inherited methods. */
export function reactor(object: object): Record<string, unknown> {
  const names: Record<string, unknown> = {}
  for (let at = object; at && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(at))) {
      if (name === 'constructor' || Object.hasOwn(names, name)) continue
      if (name.startsWith('_') && !name.startsWith('__hbi_')) continue
      if (typeof value === 'function') names[name] = value.bind(object)
    }
  }
  return names
}

/** The names that code of the peer can use on one link. */
export class LandingEnvironment {
  readonly #names: Names
  /** Values that the peer assigned: `x = 1`. */
  readonly variables = new Map<string, unknown>()

  constructor(names: Names) {
    // A promise is refused: the function that makes the names must return them at once.
    const isNames = typeof names === 'object' && names !== null && typeof names.then !== 'function'
    if (!isNames) {
      catchRejection(names, () => undefined)
      throw new ManyhostError(
        'MANYHOST_INVALID_OPTION',
        `wire: names must be an object, got ${describe(names)}`,
      )
    }
    this.#names = names
  }

  get exposedNames(): string[] {
    return Object.keys(this.#names).filter((name) => !isReservedName(name))
  }

  /** One of the names that manyhost calls itself, if it is given. */
  findCallback(name: string): ((...args: unknown[]) => unknown) | undefined {
    const found = Object.hasOwn(this.#names, name) ? this.#names[name] : undefined
    return typeof found === 'function' ? (found as (...args: unknown[]) => unknown) : undefined
  }

  getValue(name: string): unknown {
    return this.#isExposed(name) ? this.#names[name] : this.variables.get(name)
  }

  /** @throws ManyhostError MANYHOST_WIRE_CODE */
  requireFunction(name: string): (...args: unknown[]) => unknown {
    const found = this.#isExposed(name) ? this.#names[name] : undefined
    if (typeof found !== 'function')
      throw createNotAllowedError(`a call of ${shortenName(name)}, which is not exposed,`)
    return found as (...args: unknown[]) => unknown
  }

  /** @throws ManyhostError MANYHOST_WIRE_CODE */
  requireValue(name: string): unknown {
    if (!this.#isExposed(name) && !this.variables.has(name)) {
      throw createNotAllowedError(`the name ${shortenName(name)}, which is not exposed,`)
    }
    const value = this.getValue(name)
    if (typeof value === 'function')
      throw createNotAllowedError(`the function ${name} without a call`)
    return value
  }

  /**
   * @param assignedCount names that the same code assigns before this one
   * @throws ManyhostError MANYHOST_WIRE_CODE, MANYHOST_WIRE_LIMIT
   */
  assertMayAssign(name: string, assignedCount: number): void {
    if (this.#isExposed(name) || isReservedName(name))
      throw createNotAllowedError(`an assignment to ${shortenName(name)}`)
    if (name.length > MAX_NAME_LENGTH)
      throw createNotAllowedError(`the name ${shortenName(name)}, longer than ${MAX_NAME_LENGTH},`)
    if (!this.variables.has(name) && this.variables.size + assignedCount >= MAX_VARIABLES) {
      throw new ManyhostError('MANYHOST_WIRE_LIMIT', `more than ${MAX_VARIABLES} names assigned`)
    }
  }

  #isExposed(name: string): boolean {
    return Object.hasOwn(this.#names, name) && !isReservedName(name)
  }
}

function isReservedName(name: string): boolean {
  return name.startsWith('__') || RESERVED_NAMES.has(name)
}

function shortenName(name: string): string {
  return name.length > MAX_NAME_LENGTH ? `${name.slice(0, MAX_NAME_LENGTH)}...` : name
}
