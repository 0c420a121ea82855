/**
 * Reads the literals of landed code: Python's, and JSON's twins of them. The grammar is that of `ast.literal_eval`
 * without complex numbers; nothing is evaluated but the sign of a number and a sum of numbers.
 */
import { Buffer } from 'node:buffer'
import { ManyhostError } from '../core/errors.ts'

/** How deep brackets may nest. */
const DEPTH = 64
const NAME = /[A-Za-z_][A-Za-z0-9_]*/y
const NUMBER =
  /0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|(?:\d(?:_?\d)*)?\.\d(?:_?\d)*(?:[eE][+-]?\d+)?|\d(?:_?\d)*\.?(?:[eE][+-]?\d+)?/y
const PLAIN = /[^'"\\\n\r]*/y
const SIMPLE: Readonly<Record<string, string>> = {
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
/** What Python peers wrap around JSON, and the one literal that has no brackets of its own. */
const WRAPPERS = new Set(['JSONObj', 'JSONArray', 'JSONStr'])

/** Answers what a name stands for, or throws. */
export type Lookup = (name: string) => unknown

export function notAllowed(what: string): ManyhostError {
  return new ManyhostError('MANYHOST_WIRE_CODE', `${what} is not allowed in landed code`)
}

/** A cursor over code. Its methods leave it behind what they read. */
export class Reader {
  readonly code: string
  at = 0
  readonly #lookup: Lookup
  #depth = 0

  constructor(code: string, lookup: Lookup) {
    this.code = code
    this.#lookup = lookup
  }

  /** Skips blanks and comments; line breaks too where brackets are open. */
  skip(): void {
    for (;;) {
      const char = this.code.charCodeAt(this.at)
      if (char === 0x20 || char === 0x09 || char === 0x0c) this.at++
      else if ((char === 0x0a || char === 0x0d) && this.#depth > 0) this.at++
      else if (char === 0x23) {
        while (this.at < this.code.length && this.code[this.at] !== '\n') this.at++
      } else if (char === 0x5c && /^\\\r?\n/.test(this.code.slice(this.at, this.at + 3))) {
        this.at += this.code[this.at + 1] === '\r' ? 3 : 2
      } else return
    }
  }

  /** Whether `char` comes next; it is passed if so. */
  eat(char: string): boolean {
    this.skip()
    if (this.code[this.at] !== char) return false
    this.at++
    return true
  }

  name(): string | undefined {
    NAME.lastIndex = this.at
    const name = NAME.exec(this.code)?.[0]
    if (name) this.at += name.length
    return name
  }

  /** What is wrong here, as an error that shows it. */
  unexpected(): ManyhostError {
    const rest = this.code.slice(this.at, this.at + 40).split(/[\r\n]/, 1)[0] as string
    return notAllowed(rest ? JSON.stringify(rest) : 'an end in the middle')
  }

  /** `(` was passed: reads arguments up to `)`. Keyword arguments come as one object behind the others. */
  arguments(): unknown[] {
    this.#enter()
    const args: unknown[] = []
    let named: Record<string, unknown> | undefined
    while (!this.eat(')')) {
      this.skip()
      const begin = this.at
      const key = this.name()
      this.skip()
      if (key && this.code[this.at] === '=' && this.code[this.at + 1] !== '=') {
        this.at++
        named ??= {}
        if (Object.hasOwn(named, key)) throw notAllowed(`the keyword argument ${key} given twice`)
        put(named, key, this.value())
      } else {
        if (named) throw notAllowed('a positional argument behind a keyword argument')
        this.at = begin
        args.push(this.value())
      }
      if (!this.eat(',') && this.#peek() !== ')') throw this.unexpected()
    }
    this.#depth--
    if (named) args.push(named)
    return args
  }

  /** @throws ManyhostError MANYHOST_WIRE_CODE */
  value(): unknown {
    const first = this.#one()
    if (typeof first !== 'number' && typeof first !== 'bigint') return first
    return this.#sum(first)
  }

  #sum(first: number | bigint): number | bigint {
    let sum = first
    for (;;) {
      this.skip()
      const sign = this.code[this.at]
      if (sign !== '+' && sign !== '-') return sum
      this.at++
      const next = this.#one()
      if (typeof next !== 'number' && typeof next !== 'bigint')
        throw notAllowed('a sum of other than numbers')
      sum = add(sum, sign === '-' ? -next : next)
    }
  }

  #one(): unknown {
    this.skip()
    const char = this.code[this.at] ?? ''
    if (char === "'" || char === '"') return this.#strings('')
    if ((char >= '0' && char <= '9') || char === '.') return this.#number()
    switch (char) {
      case '[':
        this.at++
        return this.#items(']')
      case '(':
        this.at++
        return this.#tuple()
      case '{':
        this.at++
        return this.#braces()
      case '-':
      case '+': {
        this.at++
        const number = this.#one()
        if (typeof number !== 'number' && typeof number !== 'bigint')
          throw notAllowed(`${char} before other than a number`)
        return char === '-' ? -number : number
      }
    }
    const begin = this.at
    const name = this.name()
    if (!name) throw this.unexpected()
    return this.#named(name, begin)
  }

  #named(name: string, begin: number): unknown {
    const quote = this.code[this.at]
    if ((quote === "'" || quote === '"') && name.length <= 2)
      return this.#strings(name.toLowerCase())
    if (CONSTANTS.has(name)) return CONSTANTS.get(name)
    this.skip()
    if (this.code[this.at] === '(') {
      this.at++
      if (WRAPPERS.has(name)) return this.#wrapped()
      if (name === 'set' && this.eat(')')) return new Set()
      this.at = begin
      throw notAllowed(`a call within a call, ${name}(...),`)
    }
    return this.#lookup(name)
  }

  #wrapped(): unknown {
    this.#enter()
    const value = this.value()
    if (!this.eat(')')) throw this.unexpected()
    this.#depth--
    return value
  }

  #peek(): string | undefined {
    this.skip()
    return this.code[this.at]
  }

  #enter(): void {
    if (++this.#depth > DEPTH) throw notAllowed(`nesting deeper than ${DEPTH}`)
  }

  #items(close: string): unknown[] {
    this.#enter()
    const items: unknown[] = []
    while (!this.eat(close)) {
      items.push(this.value())
      if (!this.eat(',') && this.#peek() !== close) throw this.unexpected()
    }
    this.#depth--
    return items
  }

  /** `(1)` is a number in brackets, `(1,)` a tuple, which becomes an array. */
  #tuple(): unknown {
    this.#enter()
    const items: unknown[] = []
    let isTuple = true
    while (!this.eat(')')) {
      items.push(this.value())
      isTuple = this.eat(',')
      if (!isTuple && this.#peek() !== ')') throw this.unexpected()
    }
    this.#depth--
    return items.length === 1 && !isTuple ? items[0] : items
  }

  /** A dict becomes an object if all its keys are strings, a Map otherwise. */
  #braces(): unknown {
    this.#enter()
    const entries: [unknown, unknown][] = []
    let isSet = false
    let isObject = true
    for (let count = 0; !this.eat('}'); count++) {
      const key = this.value()
      if (count === 0) isSet = this.#peek() !== ':'
      if (!isSet && !this.eat(':')) throw this.unexpected()
      if (!isSet && typeof key === 'object' && key !== null)
        throw notAllowed('a list or a dict as a key')
      isObject &&= typeof key === 'string'
      entries.push([key, isSet ? undefined : this.value()])
      if (!this.eat(',') && this.#peek() !== '}') throw this.unexpected()
    }
    this.#depth--
    if (isSet) return new Set(entries.map(([key]) => key))
    if (!isObject) return new Map(entries)
    const object: Record<string, unknown> = {}
    for (const [key, value] of entries) put(object, key as string, value)
    return object
  }

  #number(): number | bigint {
    NUMBER.lastIndex = this.at
    const text = NUMBER.exec(this.code)?.[0]
    const next = this.code[this.at + (text?.length ?? 0)] ?? ''
    if (!text || /[\w.]/.test(next)) throw this.unexpected()
    this.at += text.length
    const digits = text.replaceAll('_', '')
    if (/^0\d/.test(digits) && /^\d+$/.test(digits) && Number(digits) !== 0) {
      throw notAllowed(`a number with leading zeros, ${text.slice(0, 40)},`)
    }
    const number = Number(digits)
    if (Number.isSafeInteger(number) || !/^(?:\d+|0[xXoObB].*)$/.test(digits)) return number
    return BigInt(digits)
  }

  /** Strings that stand beside each other are one. */
  #strings(prefix: string): string | Buffer {
    const isBytes = prefix.includes('b')
    const parts: (string | Buffer)[] = []
    let kind = prefix
    for (;;) {
      if (!/^(?:|u|r|b|rb|br)$/.test(kind)) throw notAllowed(`a string with the prefix ${kind}`)
      if (kind.includes('b') !== isBytes) throw notAllowed('bytes beside a string')
      const text = this.#string(isBytes, kind.includes('r'))
      parts.push(isBytes ? Buffer.from(text, 'latin1') : text)
      this.skip()
      const begin = this.at
      kind = (this.name() ?? '').toLowerCase()
      const quote = this.code[this.at]
      if ((quote !== "'" && quote !== '"') || kind.length > 2) {
        this.at = begin
        break
      }
    }
    if (isBytes) return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts as Buffer[])
    return parts.length === 1 ? (parts[0] as string) : parts.join('')
  }

  #string(isBytes: boolean, isRaw: boolean): string {
    const { code } = this
    const quote = code[this.at] as string
    const isLong = code.startsWith(quote.repeat(3), this.at)
    const close = isLong ? quote.repeat(3) : quote
    this.at += close.length
    let text = ''
    for (;;) {
      PLAIN.lastIndex = this.at
      const plain = (PLAIN.exec(code) as RegExpExecArray)[0]
      if (isBytes && /[^\0-\x7f]/.test(plain)) throw notAllowed('bytes of other than ASCII')
      text += plain
      this.at += plain.length
      if (code.startsWith(close, this.at)) break
      const char = code[this.at]
      if (char === undefined || ((char === '\n' || char === '\r') && !isLong))
        throw notAllowed('a string without an end')
      this.at++
      if (char !== '\\') text += char
      else if (isRaw) text += `\\${code[this.at++] ?? ''}`
      else text += this.#escape(isBytes)
    }
    this.at += close.length
    return text
  }

  /** The backslash was passed. An unknown escape stands for itself, with its backslash, as in Python. */
  #escape(isBytes: boolean): string {
    const char = this.code[this.at++]
    if (char === undefined) throw notAllowed('a string without an end')
    const simple = SIMPLE[char]
    // Python knows no `\/`; JSON does.
    if (simple !== undefined && Object.hasOwn(SIMPLE, char)) return simple
    if (char === '\n') return ''
    if (char === '\r') {
      if (this.code[this.at] === '\n') this.at++
      return ''
    }
    if (char >= '0' && char <= '7') {
      const digits = (
        /^[0-7]{1,3}/.exec(this.code.slice(this.at - 1, this.at + 2)) as RegExpExecArray
      )[0]
      this.at += digits.length - 1
      return String.fromCharCode(Number.parseInt(digits, 8) & (isBytes ? 0xff : 0x1ff))
    }
    if (char === 'x') return String.fromCharCode(this.#hex(2))
    if (isBytes) return `\\${char}`
    if (char === 'u') return String.fromCharCode(this.#hex(4))
    if (char === 'U') {
      const point = this.#hex(8)
      if (point > 0x10ffff) throw notAllowed('a character above U+10FFFF')
      return String.fromCodePoint(point)
    }
    if (char === 'N') throw notAllowed('a character by its name')
    return `\\${char}`
  }

  #hex(count: number): number {
    const digits = this.code.slice(this.at, this.at + count)
    if (digits.length < count || !/^[0-9a-fA-F]+$/.test(digits))
      throw notAllowed('an escape that is cut off')
    this.at += count
    return Number.parseInt(digits, 16)
  }
}

/** As a property of its own, whatever the name: `__proto__` would else set the prototype. */
function put(object: Record<string, unknown>, key: string, value: unknown): void {
  if (key !== '__proto__') object[key] = value
  else
    Object.defineProperty(object, key, {
      value,
      enumerable: true,
      writable: true,
      configurable: true,
    })
}

function add(a: number | bigint, b: number | bigint): number | bigint {
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
