/**
 * Reads an expression as Python has it, into a tree; nothing is evaluated here. `&&`, `||`, `!` and `a ? b : c` are read as
 * well. The order of the functions is that of precedence, the loosest first.
 */

import { numberOf, type Token, tokensOf } from './expression-tokens.ts'

export type Node =
  | { readonly is: 'value'; readonly value: string | number | bigint | boolean | null }
  | { readonly is: 'name'; readonly name: string }
  | { readonly is: 'list'; readonly items: readonly Node[] }
  | { readonly is: 'comprehension'; readonly item: Node; readonly loops: readonly Loop[] }
  | { readonly is: 'unary'; readonly operator: string; readonly of: Node }
  | {
      readonly is: 'binary'
      readonly operator: string
      readonly left: Node
      readonly right: Node
    }
  /** `a < b <= c`: each two neighbours. */
  | {
      readonly is: 'comparison'
      readonly first: Node
      readonly rest: readonly { readonly operator: string; readonly right: Node }[]
    }
  | { readonly is: 'choice'; readonly test: Node; readonly yes: Node; readonly no: Node }
  | { readonly is: 'attribute'; readonly of: Node; readonly name: string }
  | { readonly is: 'item'; readonly of: Node; readonly at: Node }
  /** `x[from:to:step]`. */
  | { readonly is: 'slice'; readonly of: Node; readonly bounds: readonly (Node | undefined)[] }
  | { readonly is: 'call'; readonly of: Node; readonly given: readonly Node[] }

/** `for a, b in from if test`. */
export interface Loop {
  readonly names: readonly string[]
  readonly from: Node
  readonly tests: readonly Node[]
}

const WORDS = new Set(['and', 'or', 'not', 'in', 'is', 'if', 'else', 'for', 'lambda'])
const CONSTANTS: ReadonlyMap<string, boolean | null> = new Map([
  ['True', true],
  ['False', false],
  ['None', null],
  ['true', true],
  ['false', false],
  ['null', null],
])
const COMPARISONS = ['==', '===', '!=', '!==', '<', '<=', '>', '>=']
/** Loosest first; each line is one precedence. */
const BINARY = [['|'], ['^'], ['&'], ['<<', '>>', '>>>'], ['+', '-'], ['*', '/', '//', '%']]
/** @throws Error that says what is wrong */
export function parseExpression(text: string): Node {
  return new Parser(text).whole()
}

class Parser {
  readonly #tokens: Token[]
  #at = 0

  constructor(text: string) {
    this.#tokens = tokensOf(text)
  }

  whole(): Node {
    const found = this.#tuple()
    if (this.#next().is !== 'end') {
      throw new Error(`Unexpected ${this.#shown()}: one expression is wanted`)
    }
    return found
  }

  /** `a, b` is a list of two. */
  #tuple(): Node {
    const first = this.#choice()
    if (!this.#isSign(',')) return first
    const items = [first]
    while (this.#take(',') && !this.#isEnd()) items.push(this.#choice())
    return { is: 'list', items }
  }

  #choice(): Node {
    const first = this.#or()
    if (this.#takeWord('if')) {
      const test = this.#or()
      if (!this.#takeWord('else')) throw new Error(`Expected else, got ${this.#shown()}`)
      return { is: 'choice', test, yes: first, no: this.#choice() }
    }
    if (!this.#take('?')) return first
    const yes = this.#choice()
    this.#expect(':')
    return { is: 'choice', test: first, yes, no: this.#choice() }
  }

  #or(): Node {
    let left = this.#and()
    while (this.#takeWord('or') || this.#take('||')) {
      left = { is: 'binary', operator: 'or', left, right: this.#and() }
    }
    return left
  }

  #and(): Node {
    let left = this.#not()
    while (this.#takeWord('and') || this.#take('&&')) {
      left = { is: 'binary', operator: 'and', left, right: this.#not() }
    }
    return left
  }

  #not(): Node {
    if (this.#takeWord('not')) return { is: 'unary', operator: 'not', of: this.#not() }
    return this.#comparison()
  }

  #comparison(): Node {
    const first = this.#binary(0)
    const rest: { operator: string; right: Node }[] = []
    for (;;) {
      const operator = this.#comparing()
      if (operator === undefined) break
      rest.push({ operator, right: this.#binary(0) })
    }
    return rest.length > 0 ? { is: 'comparison', first, rest } : first
  }

  #comparing(): string | undefined {
    const { is, text } = this.#next()
    if (is === 'sign' && COMPARISONS.includes(text)) {
      this.#at++
      return text.slice(0, 2)
    }
    if (this.#takeWord('in')) return 'in'
    if (this.#takeWord('is')) return this.#takeWord('not') ? '!=' : '=='
    if (!this.#isWord('not') || this.#tokens[this.#at + 1]?.text !== 'in') return undefined
    this.#at += 2
    return 'not in'
  }

  #binary(level: number): Node {
    const signs = BINARY[level]
    if (!signs) return this.#unary()
    let left = this.#binary(level + 1)
    for (;;) {
      const operator = signs.find((one) => this.#take(one))
      if (operator === undefined) return left
      left = { is: 'binary', operator, left, right: this.#binary(level + 1) }
    }
  }

  #unary(): Node {
    for (const operator of ['-', '+', '~', '!']) {
      if (this.#take(operator)) return { is: 'unary', operator, of: this.#unary() }
    }
    const base = this.#trailed()
    // Binds tighter than a sign before it, and looser than one behind: -2 ** -1.
    return this.#take('**')
      ? { is: 'binary', operator: '**', left: base, right: this.#unary() }
      : base
  }

  #trailed(): Node {
    let of = this.#atom()
    for (;;) {
      if (this.#take('.')) of = { is: 'attribute', of, name: this.#name() }
      else if (this.#take('(')) of = { is: 'call', of, given: this.#items(')') }
      else if (this.#take('[')) of = this.#subscript(of)
      else return of
    }
  }

  #subscript(of: Node): Node {
    const bounds: (Node | undefined)[] = []
    let isSlice = false
    for (;;) {
      const isNone = this.#isSign(':') || this.#isSign(']')
      bounds.push(isNone ? undefined : this.#choice())
      if (!this.#take(':')) break
      isSlice = true
    }
    this.#expect(']')
    const [at] = bounds
    if (isSlice && bounds.length <= 3) return { is: 'slice', of, bounds }
    if (isSlice || at === undefined) throw new Error('Expected x[n] or x[from:to:step]')
    return { is: 'item', of, at }
  }

  #atom(): Node {
    const { is, text } = this.#next()
    this.#at++
    if (is === 'number') return { is: 'value', value: numberOf(text) }
    if (is === 'text') return { is: 'value', value: this.#texts(text) }
    if (is === 'name' && CONSTANTS.has(text)) {
      return { is: 'value', value: CONSTANTS.get(text) as boolean | null }
    }
    if (is === 'name' && !WORDS.has(text)) return { is: 'name', name: text }
    if (text === '(' && is === 'sign') return this.#parenthesized()
    if (text === '[' && is === 'sign') {
      const items = this.#items(']')
      const [only] = items
      return items.length === 1 && only?.is === 'comprehension' ? only : { is: 'list', items }
    }
    this.#at--
    throw new Error(`Unexpected ${this.#shown()}`)
  }

  /** Texts beside each other are one. */
  #texts(first: string): string {
    let text = first
    while (this.#next().is === 'text') {
      text += this.#next().text
      this.#at++
    }
    return text
  }

  #parenthesized(): Node {
    if (this.#take(')')) return { is: 'list', items: [] }
    const first = this.#choice()
    const inside = this.#isWord('for') ? this.#comprehension(first) : first
    if (!this.#isSign(',')) {
      this.#expect(')')
      return inside
    }
    this.#take(',')
    return { is: 'list', items: [inside, ...this.#items(')')] }
  }

  #items(end: string): Node[] {
    const items: Node[] = []
    while (!this.#take(end)) {
      const item = this.#choice()
      items.push(this.#isWord('for') ? this.#comprehension(item) : item)
      if (this.#take(',')) continue
      this.#expect(end)
      break
    }
    return items
  }

  #comprehension(item: Node): Node {
    const loops: Loop[] = []
    while (this.#takeWord('for')) {
      const isWrapped = this.#take('(')
      const names = [this.#name()]
      while (this.#take(',') && this.#next().is === 'name') names.push(this.#name())
      if (isWrapped) this.#expect(')')
      if (!this.#takeWord('in')) throw new Error(`Expected in, got ${this.#shown()}`)
      const from = this.#or()
      const tests: Node[] = []
      while (this.#takeWord('if')) tests.push(this.#or())
      loops.push({ names, from, tests })
    }
    return { is: 'comprehension', item, loops }
  }

  #name(): string {
    const { is, text } = this.#next()
    if (is !== 'name' || WORDS.has(text)) throw new Error(`Expected a name, got ${this.#shown()}`)
    this.#at++
    return text
  }

  #next(): Token {
    return this.#tokens[this.#at] as Token
  }

  #isEnd(): boolean {
    return this.#next().is === 'end'
  }

  #isSign(text: string): boolean {
    return this.#next().is === 'sign' && this.#next().text === text
  }

  #take(text: string): boolean {
    const isIt = this.#isSign(text)
    if (isIt) this.#at++
    return isIt
  }

  #isWord(text: string): boolean {
    return this.#next().is === 'name' && this.#next().text === text
  }

  #takeWord(text: string): boolean {
    const isIt = this.#isWord(text)
    if (isIt) this.#at++
    return isIt
  }

  #expect(text: string): void {
    if (!this.#take(text)) throw new Error(`Expected ${text}, got ${this.#shown()}`)
  }

  #shown(): string {
    return this.#isEnd() ? 'the end' : `'${this.#next().text.slice(0, 40)}'`
  }
}
