/** Writes values as code, in Python's notation: original peers and manyhost peers land it. */
import { Buffer } from 'node:buffer'
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'

const MAX_NESTING = 64
const NAME_PATTERN = /^[A-Za-z_][A-Za-z0-9_]*$/
const PLAIN_TEXT_PATTERN = /^[\x20-\x26\x28-\x5b\x5d-\x7e]*$/
/** Characters that Python escapes too: they cannot be printed, or are half of a surrogate pair. */
const ESCAPED_CHARS_PATTERN =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern looks for them.
  /[\0-\x1f\x7f-\xa0\xad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\ufff9-\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g
const SHORT_ESCAPES: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

function createUnwritableError(what: string): ManyhostError {
  return new ManyhostError('MANYHOST_WIRE_CODE', `${what} cannot be written as code`)
}

/**
 * A value as code.
 * - Whole numbers below 1e21 become integers, larger ones floats; infinity becomes `1e999`, which every peer reads as it.
 * - undefined and null become `None`; booleans `True` and `False`.
 * - Uint8Arrays become bytes literals, arrays lists, Maps and plain objects dicts, Sets sets.
 * @throws ManyhostError MANYHOST_WIRE_CODE for functions, symbols, instances of classes, and nesting deeper than 64
 */
export function repr(value: unknown): string {
  return writeValue(value, 0)
}

/** The call of a name, as code. @throws ManyhostError MANYHOST_WIRE_CODE */
export function formatCall(name: string, args: readonly unknown[]): string {
  if (!NAME_PATTERN.test(name)) throw createUnwritableError(`a call of ${JSON.stringify(name)}`)
  return `${name}(${args.map(repr).join(',')})`
}

/**
 * Code with values inserted as literals: code`do_job(${action}, ${size})`. An inserted value cannot become code.
 * @throws ManyhostError MANYHOST_WIRE_CODE
 */
export function code(texts: TemplateStringsArray, ...values: readonly unknown[]): string {
  return texts.reduce((all, text, index) => all + repr(values[index - 1]) + text)
}

function writeValue(value: unknown, depth: number): string {
  switch (typeof value) {
    case 'string':
      return writeString(value)
    case 'number':
      return writeNumber(value)
    case 'boolean':
      return value ? 'True' : 'False'
    case 'undefined':
      return 'None'
    case 'bigint':
      return String(value)
    case 'object':
      return value === null ? 'None' : writeObject(value, depth + 1)
    default:
      throw createUnwritableError(`a ${typeof value}`)
  }
}

function writeNumber(value: number): string {
  if (Number.isNaN(value)) return 'nan'
  if (!Number.isFinite(value)) return value > 0 ? '1e999' : '-1e999'
  if (Object.is(value, -0)) return '-0.0'
  // From 1e21 up JavaScript writes an exponent, which is a float on the wire. A bigint is written as digits at any size.
  const isLarge = Number.isInteger(value) && !Number.isSafeInteger(value) && Math.abs(value) < 1e21
  return isLarge ? String(BigInt(value)) : String(value)
}

function writeString(value: string): string {
  if (PLAIN_TEXT_PATTERN.test(value)) return `'${value}'`
  const quote = value.includes("'") && !value.includes('"') ? '"' : "'"
  const text = value
    .replaceAll('\\', '\\\\')
    .replaceAll(quote, `\\${quote}`)
    .replace(
      ESCAPED_CHARS_PATTERN,
      (char) => SHORT_ESCAPES[char] ?? writeEscape(char.charCodeAt(0)),
    )
  return quote + text + quote
}

function writeEscape(unit: number): string {
  return unit < 0x100
    ? `\\x${unit.toString(16).padStart(2, '0')}`
    : `\\u${unit.toString(16).padStart(4, '0')}`
}

function writeBytes(value: Uint8Array): string {
  const text = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('latin1')
  return `b${writeString(text).replace(/[\x80-\uffff]/g, (char) => writeEscape(char.charCodeAt(0)))}`
}

function writeObject(value: object, depth: number): string {
  if (depth > MAX_NESTING)
    throw createUnwritableError(`nesting deeper than ${MAX_NESTING}, or a circular reference,`)
  if (Array.isArray(value)) return `[${value.map((item) => writeValue(item, depth)).join(', ')}]`
  if (value instanceof Uint8Array) return writeBytes(value)
  if (value instanceof Set) {
    const items = [...value].map((item) => writeValue(item, depth))
    return items.length > 0 ? `{${items.join(', ')}}` : 'set()'
  }
  const isMap = value instanceof Map
  const prototype = Object.getPrototypeOf(value)
  if (!isMap && prototype !== Object.prototype && prototype !== null) {
    throw createUnwritableError(describe(value))
  }
  const entries = isMap
    ? [...value]
    : Object.entries(value).filter(([, item]) => item !== undefined)
  return `{${entries.map(([key, item]) => `${writeValue(key, depth)}: ${writeValue(item, depth)}`).join(', ')}}`
}
