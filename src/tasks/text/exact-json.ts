/**
 * JSON that keeps whole numbers exactly. A double has 53 bits, so `JSON.parse` silently reads 9007199254740993 as ...992.
 * Here a whole number beyond that range is a bigint, and is written with the same digits.
 */
import { randomUUID } from 'node:crypto'

/** Stands before a number in the place of a text. It is random, so that no text from outside can begin with it. */
const MARK = `${randomUUID()}:`

/** A whole number that a double cannot hold has 16 digits or more. */
const MAYBE_INEXACT = /\d{16}/

const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g

/**
 * As `JSON.parse`, but a whole number beyond 2^53 becomes a bigint.
 * @throws SyntaxError
 */
export function parseJson(text: string): unknown {
  const found: unknown = JSON.parse(text)
  if (!MAYBE_INEXACT.test(text)) return found
  let isMarked = false
  const marked = text.replace(TOKENS, (token) => {
    if (!/^-?\d+$/.test(token) || Number.isSafeInteger(Number(token))) return token
    isMarked = true
    return `"${MARK}${token}"`
  })
  if (!isMarked) return found
  return JSON.parse(marked, (_, value) =>
    typeof value === 'string' && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value,
  )
}

/** As `JSON.stringify`, but a bigint is written as a number. */
export function toJson(value: unknown, indent?: number): string {
  try {
    return JSON.stringify(value, null, indent)
  } catch (error) {
    // `JSON.stringify` takes no bigint. Few values have one, and only these pay for the second pass.
    if (!(error instanceof TypeError)) throw error
  }
  const text = JSON.stringify(
    value,
    (_, one) => (typeof one === 'bigint' ? `${MARK}${one}` : one),
    indent,
  )
  return text.replaceAll(new RegExp(`"${MARK}(-?\\d+)"`, 'g'), '$1')
}
