/**
 * Reads the literals of landed code: Python's, and JSON's equivalents of them. The grammar is that of `ast.literal_eval`
 * without complex numbers. Nothing is evaluated except the sign of a number, and a sum of numbers.
 */
import { Buffer } from 'node:buffer'
import type { ManyhostError } from '../core/errors.ts'
import { createNotAllowedError } from './errors.ts'

/** Maximum nesting of brackets. */
const MAX_NESTING = 64
const NAME_PATTERN = /[A-Za-z_][A-Za-z0-9_]*/y
const NUMBER_PATTERN =
  /0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|(?:\d(?:_?\d)*)?\.\d(?:_?\d)*(?:[eE][+-]?\d+)?|\d(?:_?\d)*\.?(?:[eE][+-]?\d+)?/y
const PLAIN_TEXT_PATTERN = /[^'"\\\n\r]*/y
const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  '\\': '\\',
  "'": "'",
  '"': '"',
  '/': '/',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
}
const CONSTANTS: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  ['None', null],
  ['null', null],
  ['nil', null],
  ['True', true],
  ['true', true],
  ['False', false],
  ['false', false],
  ['inf', Number.POSITIVE_INFINITY],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['nan', Number.NaN],
  ['NaN', Number.NaN],
])
/** Calls that Python peers write around JSON. */
const WRAPPERS = new Set(['JSONObj', 'JSONArray', 'JSONStr'])

/** Returns the value of a name, or throws. */
export type LookUpName = (name: string) => unknown

/** A cursor over code. Each method moves it behind what it has read. */
export class LiteralReader {
  readonly code: string
  offset = 0
  readonly #lookUpName: LookUpName
  #depth = 0

  constructor(code: string, lookUpName: LookUpName) {
    this.code = code
    this.#lookUpName = lookUpName
  }

  /** Skips blanks and comments; inside brackets, line breaks too. */
  skipBlanks(): void {
    for (;;) {
      const char = this.code.charCodeAt(this.offset)
      if (char === 0x20 || char === 0x09 || char === 0x0c) this.offset++
      else if ((char === 0x0a || char === 0x0d) && this.#depth > 0) this.offset++
      else if (char === 0x23) {
        while (this.offset < this.code.length && this.code[this.offset] !== '\n') this.offset++
      } else if (char === 0x5c && /^\\\r?\n/.test(this.code.slice(this.offset, this.offset + 3))) {
        this.offset += this.code[this.offset + 1] === '\r' ? 3 : 2
      } else return
    }
  }

  /** Skips `char` if it comes next. Returns whether it did. */
  skipChar(char: string): boolean {
    this.skipBlanks()
    if (this.code[this.offset] !== char) return false
    this.offset++
    return true
  }

  readName(): string | undefined {
    NAME_PATTERN.lastIndex = this.offset
    const name = NAME_PATTERN.exec(this.code)?.[0]
    if (name) this.offset += name.length
    return name
  }

  /** An error that shows the code at the cursor. */
  createUnexpectedError(): ManyhostError {
    const rest = this.code.slice(this.offset, this.offset + 40).split(/[\r\n]/, 1)[0] as string
    return createNotAllowedError(rest ? JSON.stringify(rest) : 'an end in the middle of a value')
  }

  /** The cursor is behind `(`: reads the arguments and `)`. Keyword arguments become one object behind the others. */
  readArguments(): unknown[] {
    this.#enterNesting()
    const args: unknown[] = []
    let named: Record<string, unknown> | undefined
    while (!this.skipChar(')')) {
      this.skipBlanks()
      const begin = this.offset
      const key = this.readName()
      this.skipBlanks()
      if (key && this.code[this.offset] === '=' && this.code[this.offset + 1] !== '=') {
        this.offset++
        named ??= {}
        if (Object.hasOwn(named, key))
          throw createNotAllowedError(`the keyword argument ${key} twice`)
        setOwnProperty(named, key, this.readValue())
      } else {
        if (named) throw createNotAllowedError('a positional argument behind a keyword argument')
        this.offset = begin
        args.push(this.readValue())
      }
      if (!this.skipChar(',') && this.#peekChar() !== ')') throw this.createUnexpectedError()
    }
    this.#depth--
    if (named) args.push(named)
    return args
  }

  /** @throws ManyhostError MANYHOST_WIRE_CODE */
  readValue(): unknown {
    const first = this.#readTerm()
    if (typeof first !== 'number' && typeof first !== 'bigint') return first
    return this.#readSum(first)
  }

  #readSum(first: number | bigint): number | bigint {
    let sum = first
    for (;;) {
      this.skipBlanks()
      const sign = this.code[this.offset]
      if (sign !== '+' && sign !== '-') return sum
      this.offset++
      const next = this.#readTerm()
      if (typeof next !== 'number' && typeof next !== 'bigint')
        throw createNotAllowedError('a sum of values that are no numbers')
      sum = addNumbers(sum, sign === '-' ? -next : next)
    }
  }

  #readTerm(): unknown {
    this.skipBlanks()
    const char = this.code[this.offset] ?? ''
    if (char === "'" || char === '"') return this.#readStrings('')
    if ((char >= '0' && char <= '9') || char === '.') return this.#readNumber()
    switch (char) {
      case '[':
        this.offset++
        return this.#readItems(']')
      case '(':
        this.offset++
        return this.#readTuple()
      case '{':
        this.offset++
        return this.#readBraces()
      case '-':
      case '+': {
        this.offset++
        const number = this.#readTerm()
        if (typeof number !== 'number' && typeof number !== 'bigint')
          throw createNotAllowedError(`${char} before a value that is no number`)
        return char === '-' ? -number : number
      }
    }
    const begin = this.offset
    const name = this.readName()
    if (!name) throw this.createUnexpectedError()
    return this.#readNamed(name, begin)
  }

  #readNamed(name: string, begin: number): unknown {
    const quote = this.code[this.offset]
    if ((quote === "'" || quote === '"') && name.length <= 2)
      return this.#readStrings(name.toLowerCase())
    if (CONSTANTS.has(name)) return CONSTANTS.get(name)
    this.skipBlanks()
    if (this.code[this.offset] === '(') {
      this.offset++
      if (WRAPPERS.has(name)) return this.#readWrapped()
      if (name === 'set' && this.skipChar(')')) return new Set()
      this.offset = begin
      throw createNotAllowedError(`a call within a call, ${name}(...),`)
    }
    return this.#lookUpName(name)
  }

  #readWrapped(): unknown {
    this.#enterNesting()
    const value = this.readValue()
    if (!this.skipChar(')')) throw this.createUnexpectedError()
    this.#depth--
    return value
  }

  #peekChar(): string | undefined {
    this.skipBlanks()
    return this.code[this.offset]
  }

  #enterNesting(): void {
    if (++this.#depth > MAX_NESTING)
      throw createNotAllowedError(`nesting deeper than ${MAX_NESTING}`)
  }

  #readItems(close: string): unknown[] {
    this.#enterNesting()
    const items: unknown[] = []
    while (!this.skipChar(close)) {
      items.push(this.readValue())
      if (!this.skipChar(',') && this.#peekChar() !== close) throw this.createUnexpectedError()
    }
    this.#depth--
    return items
  }

  /** `(1)` is a number in brackets. `(1,)` is a tuple, which becomes an array. */
  #readTuple(): unknown {
    this.#enterNesting()
    const items: unknown[] = []
    let isTuple = true
    while (!this.skipChar(')')) {
      items.push(this.readValue())
      isTuple = this.skipChar(',')
      if (!isTuple && this.#peekChar() !== ')') throw this.createUnexpectedError()
    }
    this.#depth--
    return items.length === 1 && !isTuple ? items[0] : items
  }

  /** A dict becomes an object if all its keys are strings, a Map otherwise. */
  #readBraces(): unknown {
    this.#enterNesting()
    const entries: [unknown, unknown][] = []
    let isSet = false
    let isObject = true
    for (let count = 0; !this.skipChar('}'); count++) {
      const key = this.readValue()
      if (count === 0) isSet = this.#peekChar() !== ':'
      if (!isSet && !this.skipChar(':')) throw this.createUnexpectedError()
      if (!isSet && typeof key === 'object' && key !== null)
        throw createNotAllowedError('a list or a dict as a key')
      isObject &&= typeof key === 'string'
      entries.push([key, isSet ? undefined : this.readValue()])
      if (!this.skipChar(',') && this.#peekChar() !== '}') throw this.createUnexpectedError()
    }
    this.#depth--
    if (isSet) return new Set(entries.map(([key]) => key))
    if (!isObject) return new Map(entries)
    const object: Record<string, unknown> = {}
    for (const [key, value] of entries) setOwnProperty(object, key as string, value)
    return object
  }

  #readNumber(): number | bigint {
    NUMBER_PATTERN.lastIndex = this.offset
    const text = NUMBER_PATTERN.exec(this.code)?.[0]
    const next = this.code[this.offset + (text?.length ?? 0)] ?? ''
    if (!text || /[\w.]/.test(next)) throw this.createUnexpectedError()
    this.offset += text.length
    const digits = text.replaceAll('_', '')
    if (/^0\d/.test(digits) && /^\d+$/.test(digits) && Number(digits) !== 0) {
      throw createNotAllowedError(`a number with leading zeros, ${text.slice(0, 40)},`)
    }
    const number = Number(digits)
    if (Number.isSafeInteger(number) || !/^(?:\d+|0[xXoObB].*)$/.test(digits)) return number
    return BigInt(digits)
  }

  /** Adjacent strings are one string. */
  #readStrings(prefix: string): string | Buffer {
    const isBytes = prefix.includes('b')
    const parts: (string | Buffer)[] = []
    let kind = prefix
    for (;;) {
      if (!/^(?:|u|r|b|rb|br)$/.test(kind))
        throw createNotAllowedError(`a string with the prefix ${kind}`)
      if (kind.includes('b') !== isBytes)
        throw createNotAllowedError('a bytes literal beside a string')
      const text = this.#readString(isBytes, kind.includes('r'))
      parts.push(isBytes ? Buffer.from(text, 'latin1') : text)
      this.skipBlanks()
      const begin = this.offset
      kind = (this.readName() ?? '').toLowerCase()
      const quote = this.code[this.offset]
      if ((quote !== "'" && quote !== '"') || kind.length > 2) {
        this.offset = begin
        break
      }
    }
    if (isBytes) return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts as Buffer[])
    return parts.length === 1 ? (parts[0] as string) : parts.join('')
  }

  #readString(isBytes: boolean, isRaw: boolean): string {
    const { code } = this
    const quote = code[this.offset] as string
    const isLong = code.startsWith(quote.repeat(3), this.offset)
    const close = isLong ? quote.repeat(3) : quote
    this.offset += close.length
    let text = ''
    for (;;) {
      PLAIN_TEXT_PATTERN.lastIndex = this.offset
      const plain = (PLAIN_TEXT_PATTERN.exec(code) as RegExpExecArray)[0]
      if (isBytes && /[^\0-\x7f]/.test(plain))
        throw createNotAllowedError('a bytes literal with characters that are not ASCII')
      text += plain
      this.offset += plain.length
      if (code.startsWith(close, this.offset)) break
      const char = code[this.offset]
      if (char === undefined || ((char === '\n' || char === '\r') && !isLong))
        throw createNotAllowedError('a string without an end')
      this.offset++
      if (char !== '\\') text += char
      else if (isRaw) text += `\\${code[this.offset++] ?? ''}`
      else text += this.#readEscape(isBytes)
    }
    this.offset += close.length
    return text
  }

  /** The cursor is behind the backslash. An unknown escape stands for itself, with its backslash, as in Python. */
  #readEscape(isBytes: boolean): string {
    const char = this.code[this.offset++]
    if (char === undefined) throw createNotAllowedError('a string without an end')
    const simple = SIMPLE_ESCAPES[char]
    // `\/` is an escape of JSON, not of Python.
    if (simple !== undefined && Object.hasOwn(SIMPLE_ESCAPES, char)) return simple
    if (char === '\n') return ''
    if (char === '\r') {
      if (this.code[this.offset] === '\n') this.offset++
      return ''
    }
    if (char >= '0' && char <= '7') {
      const digits = (
        /^[0-7]{1,3}/.exec(this.code.slice(this.offset - 1, this.offset + 2)) as RegExpExecArray
      )[0]
      this.offset += digits.length - 1
      return String.fromCharCode(Number.parseInt(digits, 8) & (isBytes ? 0xff : 0x1ff))
    }
    if (char === 'x') return String.fromCharCode(this.#readHex(2))
    if (isBytes) return `\\${char}`
    if (char === 'u') return String.fromCharCode(this.#readHex(4))
    if (char === 'U') {
      const point = this.#readHex(8)
      if (point > 0x10ffff) throw createNotAllowedError('a character above U+10FFFF')
      return String.fromCodePoint(point)
    }
    if (char === 'N') throw createNotAllowedError('a character by its name')
    return `\\${char}`
  }

  #readHex(count: number): number {
    const digits = this.code.slice(this.offset, this.offset + count)
    if (digits.length < count || !/^[0-9a-fA-F]+$/.test(digits))
      throw createNotAllowedError('an escape that is cut off')
    this.offset += count
    return Number.parseInt(digits, 16)
  }
}

/** Sets an own property of any name: a plain assignment to `__proto__` would set the prototype instead. */
function setOwnProperty(object: Record<string, unknown>, key: string, value: unknown): void {
  if (key !== '__proto__') object[key] = value
  else
    Object.defineProperty(object, key, {
      value,
      enumerable: true,
      writable: true,
      configurable: true,
    })
}

function addNumbers(a: number | bigint, b: number | bigint): number | bigint {
  if (typeof a === 'number' && typeof b === 'number') {
    const sum = a + b
    const isExact =
      Number.isSafeInteger(sum) || !Number.isSafeInteger(a) || !Number.isSafeInteger(b)
    return isExact ? sum : BigInt(a) + BigInt(b)
  }
  if (typeof a === 'bigint' && typeof b === 'bigint') return a + b
  const [big, number] = typeof a === 'bigint' ? [a, b as number] : [b as bigint, a as number]
  return Number.isSafeInteger(number) ? big + BigInt(number) : Number(big) + number
}
