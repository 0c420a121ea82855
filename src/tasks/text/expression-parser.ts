/**
 * Parses an expression of Python into a tree; nothing is evaluated here. `&&`, `||`, `!` and `a ? b : c` are accepted, too. The
 * methods stand in the order of precedence: the operators that bind loosest come first.
 */

import { type ExpressionToken, parseNumber, tokenizeExpression } from './expression-tokens.ts'

export type ExpressionNode =
  | { readonly is: 'value'; readonly value: string | number | bigint | boolean | null }
  | { readonly is: 'name'; readonly name: string }
  | { readonly is: 'list'; readonly items: readonly ExpressionNode[] }
  | {
      readonly is: 'comprehension'
      readonly item: ExpressionNode
      readonly loops: readonly ComprehensionLoop[]
    }
  | { readonly is: 'unary'; readonly operator: string; readonly of: ExpressionNode }
  | {
      readonly is: 'binary'
      readonly operator: string
      readonly left: ExpressionNode
      readonly right: ExpressionNode
    }
  /** `a < b <= c`: each two neighbours are compared. */
  | {
      readonly is: 'comparison'
      readonly first: ExpressionNode
      readonly rest: readonly { readonly operator: string; readonly right: ExpressionNode }[]
    }
  | {
      readonly is: 'choice'
      readonly test: ExpressionNode
      readonly yes: ExpressionNode
      readonly no: ExpressionNode
    }
  | { readonly is: 'attribute'; readonly of: ExpressionNode; readonly name: string }
  | { readonly is: 'item'; readonly of: ExpressionNode; readonly at: ExpressionNode }
  /** `x[from:to:step]`. */
  | {
      readonly is: 'slice'
      readonly of: ExpressionNode
      readonly bounds: readonly (ExpressionNode | undefined)[]
    }
  | { readonly is: 'call'; readonly of: ExpressionNode; readonly given: readonly ExpressionNode[] }

/** `for a, b in from if test`. */
export interface ComprehensionLoop {
  readonly names: readonly string[]
  readonly iterated: ExpressionNode
  readonly tests: readonly ExpressionNode[]
}

const KEYWORDS = new Set(['and', 'or', 'not', 'in', 'is', 'if', 'else', 'for', 'lambda'])
const CONSTANTS: ReadonlyMap<string, boolean | null> = new Map([
  ['True', true],
  ['False', false],
  ['None', null],
  ['true', true],
  ['false', false],
  ['null', null],
])
const COMPARISONS = ['==', '===', '!=', '!==', '<', '<=', '>', '>=']
/** Each list is one precedence; those that bind loosest come first. */
const BINARY = [['|'], ['^'], ['&'], ['<<', '>>', '>>>'], ['+', '-'], ['*', '/', '//', '%']]
/** @throws Error that says what is wrong */
export function parseExpression(text: string): ExpressionNode {
  return new ExpressionParser(text).parse()
}

class ExpressionParser {
  readonly #tokens: ExpressionToken[]
  #at = 0

  constructor(text: string) {
    this.#tokens = tokenizeExpression(text)
  }

  parse(): ExpressionNode {
    const found = this.#tuple()
    if (this.#next().is !== 'end') {
      throw new Error(`Unexpected ${this.#describeNext()}: expected one expression`)
    }
    return found
  }

  /** `a, b` is a list of two. */
  #tuple(): ExpressionNode {
    const first = this.#conditional()
    if (!this.#isSign(',')) return first
    const items = [first]
    while (this.#take(',') && !this.#isEnd()) items.push(this.#conditional())
    return { is: 'list', items }
  }

  #conditional(): ExpressionNode {
    const first = this.#or()
    if (this.#takeWord('if')) {
      const test = this.#or()
      if (!this.#takeWord('else')) throw new Error(`Expected else, got ${this.#describeNext()}`)
      return { is: 'choice', test, yes: first, no: this.#conditional() }
    }
    if (!this.#take('?')) return first
    const yes = this.#conditional()
    this.#expect(':')
    return { is: 'choice', test: first, yes, no: this.#conditional() }
  }

  #or(): ExpressionNode {
    let left = this.#and()
    while (this.#takeWord('or') || this.#take('||')) {
      left = { is: 'binary', operator: 'or', left, right: this.#and() }
    }
    return left
  }

  #and(): ExpressionNode {
    let left = this.#not()
    while (this.#takeWord('and') || this.#take('&&')) {
      left = { is: 'binary', operator: 'and', left, right: this.#not() }
    }
    return left
  }

  #not(): ExpressionNode {
    if (this.#takeWord('not')) return { is: 'unary', operator: 'not', of: this.#not() }
    return this.#comparison()
  }

  #comparison(): ExpressionNode {
    const first = this.#binary(0)
    const rest: { operator: string; right: ExpressionNode }[] = []
    for (;;) {
      const operator = this.#comparisonOperator()
      if (operator === undefined) break
      rest.push({ operator, right: this.#binary(0) })
    }
    return rest.length > 0 ? { is: 'comparison', first, rest } : first
  }

  #comparisonOperator(): string | undefined {
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

  #binary(level: number): ExpressionNode {
    const signs = BINARY[level]
    if (!signs) return this.#unary()
    let left = this.#binary(level + 1)
    for (;;) {
      const operator = signs.find((one) => this.#take(one))
      if (operator === undefined) return left
      left = { is: 'binary', operator, left, right: this.#binary(level + 1) }
    }
  }

  #unary(): ExpressionNode {
    for (const operator of ['-', '+', '~', '!']) {
      if (this.#take(operator)) return { is: 'unary', operator, of: this.#unary() }
    }
    const base = this.#postfix()
    // `**` binds tighter than a sign before it, and looser than a sign behind it: -2 ** -1.
    return this.#take('**')
      ? { is: 'binary', operator: '**', left: base, right: this.#unary() }
      : base
  }

  #postfix(): ExpressionNode {
    let of = this.#atom()
    for (;;) {
      if (this.#take('.')) of = { is: 'attribute', of, name: this.#name() }
      else if (this.#take('(')) of = { is: 'call', of, given: this.#items(')') }
      else if (this.#take('[')) of = this.#subscript(of)
      else return of
    }
  }

  #subscript(of: ExpressionNode): ExpressionNode {
    const bounds: (ExpressionNode | undefined)[] = []
    let isSlice = false
    for (;;) {
      const isNone = this.#isSign(':') || this.#isSign(']')
      bounds.push(isNone ? undefined : this.#conditional())
      if (!this.#take(':')) break
      isSlice = true
    }
    this.#expect(']')
    const [at] = bounds
    if (isSlice && bounds.length <= 3) return { is: 'slice', of, bounds }
    if (isSlice || at === undefined) throw new Error('Expected x[n] or x[from:to:step]')
    return { is: 'item', of, at }
  }

  #atom(): ExpressionNode {
    const { is, text } = this.#next()
    this.#at++
    if (is === 'number') return { is: 'value', value: parseNumber(text) }
    if (is === 'text') return { is: 'value', value: this.#adjacentTexts(text) }
    if (is === 'name' && CONSTANTS.has(text)) {
      return { is: 'value', value: CONSTANTS.get(text) as boolean | null }
    }
    if (is === 'name' && !KEYWORDS.has(text)) return { is: 'name', name: text }
    if (text === '(' && is === 'sign') return this.#parenthesized()
    if (text === '[' && is === 'sign') {
      const items = this.#items(']')
      const [only] = items
      return items.length === 1 && only?.is === 'comprehension' ? only : { is: 'list', items }
    }
    this.#at--
    throw new Error(`Unexpected ${this.#describeNext()}`)
  }

  /** Texts that stand beside each other are one text. */
  #adjacentTexts(first: string): string {
    let text = first
    while (this.#next().is === 'text') {
      text += this.#next().text
      this.#at++
    }
    return text
  }

  #parenthesized(): ExpressionNode {
    if (this.#take(')')) return { is: 'list', items: [] }
    const first = this.#conditional()
    const inside = this.#isWord('for') ? this.#comprehension(first) : first
    if (!this.#isSign(',')) {
      this.#expect(')')
      return inside
    }
    this.#take(',')
    return { is: 'list', items: [inside, ...this.#items(')')] }
  }

  #items(end: string): ExpressionNode[] {
    const items: ExpressionNode[] = []
    while (!this.#take(end)) {
      const item = this.#conditional()
      items.push(this.#isWord('for') ? this.#comprehension(item) : item)
      if (this.#take(',')) continue
      this.#expect(end)
      break
    }
    return items
  }

  #comprehension(item: ExpressionNode): ExpressionNode {
    const loops: ComprehensionLoop[] = []
    while (this.#takeWord('for')) {
      const isWrapped = this.#take('(')
      const names = [this.#name()]
      while (this.#take(',') && this.#next().is === 'name') names.push(this.#name())
      if (isWrapped) this.#expect(')')
      if (!this.#takeWord('in')) throw new Error(`Expected in, got ${this.#describeNext()}`)
      const from = this.#or()
      const tests: ExpressionNode[] = []
      while (this.#takeWord('if')) tests.push(this.#or())
      loops.push({ names, iterated: from, tests })
    }
    return { is: 'comprehension', item, loops }
  }

  #name(): string {
    const { is, text } = this.#next()
    if (is !== 'name' || KEYWORDS.has(text))
      throw new Error(`Expected a name, got ${this.#describeNext()}`)
    this.#at++
    return text
  }

  #next(): ExpressionToken {
    return this.#tokens[this.#at] as ExpressionToken
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
    if (!this.#take(text)) throw new Error(`Expected ${text}, got ${this.#describeNext()}`)
  }

  #describeNext(): string {
    return this.#isEnd() ? 'the end' : `'${this.#next().text.slice(0, 40)}'`
  }
}
