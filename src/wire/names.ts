/** What the peer may call and read: own properties of an object, and nothing that they inherit. */

import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import { catchRejection } from '../core/user-functions.ts'
import { createNotAllowedError } from './errors.ts'

/**
 * Functions that the peer may call, and values that it may name. Functions get landed arguments; keyword arguments come
 * as one object behind the others. What a function answers, now or later, is sent back unless it is undefined. Some
 * names are called by manyhost, and never by the peer:
 * `__hbi_init__(po, ho)` when the link is up; `__hbi_cleanup__(po, ho, reason)` when it has ended;
 * `__hbi_land__(code)` before code is landed, answering undefined for the usual landing;
 * `hbi_peer_done()` when the peer will send no more; `hbi_disconnecting(reason)`; `hbi_disconnected(reason)`.
 */
export type Names = Readonly<Record<string, unknown>>

/** Longest name. */
const MAX_NAME_LENGTH = 64
/** Most names that a peer may assign. */
const MAX_VARIABLES = 64
const RESERVED_NAMES = new Set(['hbi_peer_done', 'hbi_disconnecting', 'hbi_disconnected'])

/** The public methods of an object as names, bound to it: those that do not begin with `_`, inherited ones included. */
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

export class LandingEnvironment {
  readonly #names: Names
  /** What the peer assigned: `x = 1`. */
  readonly variables = new Map<string, unknown>()

  constructor(names: Names) {
    // A promise is an object without names: the function that makes them must answer at once.
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

  /** Exposed names. */
  get exposedNames(): string[] {
    return Object.keys(this.#names).filter((name) => !isReservedName(name))
  }

  /** One of manyhost's own callbacks, where it is given. */
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

  /** @throws ManyhostError MANYHOST_WIRE_CODE, MANYHOST_WIRE_LIMIT */
  assertMayAssign(name: string, already: number): void {
    if (this.#isExposed(name) || isReservedName(name))
      throw createNotAllowedError(`an assignment to ${shortenName(name)}`)
    if (name.length > MAX_NAME_LENGTH)
      throw createNotAllowedError(`the name ${shortenName(name)}, longer than ${MAX_NAME_LENGTH},`)
    if (!this.variables.has(name) && this.variables.size + already >= MAX_VARIABLES) {
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
