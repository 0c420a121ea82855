/**
 * The undocumented fields of undici that manyhost uses, in this file only. test/core/undici-internals.test.ts has a test per
 * field, which fails when a version of undici no longer has it.
 */
import type { Duplex } from 'node:stream'

/** undici's parser of the responses of one connection. */
export interface UndiciParser {
  /** The reader of the body is slow, so the parser takes nothing for now. */
  readonly paused?: boolean
}

/**
 * The parser that undici has attached to a socket under a symbol of its own.
 * @returns undefined for a socket that undici does not parse (any more), such as an upgraded connection
 */
export function undiciParserOf(socket: Duplex): UndiciParser | undefined {
  const symbols = Object.getOwnPropertySymbols(socket)
  const key = symbols.find(({ description }) => description === 'parser')
  return (key && (Reflect.get(socket, key) as UndiciParser | null)) ?? undefined
}
