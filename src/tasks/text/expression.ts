/**
 * Evaluates `{= expr of x =}`: arithmetic and text as in Python, parsed by `expression-parser.ts`, never by `eval`. An expression
 * can only reach the names and methods of `expression-functions.ts`, and no object of JavaScript. Steps and sizes are bounded.
 */

import { ExpressionDate } from './expression-date.ts'
import { EXPRESSION_METHODS, EXPRESSION_NAMES } from './expression-functions.ts'
import {
  applyBinary,
  applyComparison,
  applyUnary,
  checkValueSize,
  ExpressionError,
  isTruthy,
} from './expression-operators.ts'
import {
  type ComprehensionLoop,
  type ExpressionNode,
  parseExpression,
} from './expression-parser.ts'
import type { ExpressionValue } from './expression-value.ts'
import { takeSlice } from './python-slice.ts'

export interface Expression {
  /** @throws ExpressionError */
  evaluate(variables: Readonly<Record<string, ExpressionValue>>): ExpressionValue
}

/** Characters of an expression, and steps of one evaluation, at most. */
const MAX_EXPRESSION_LENGTH = 10_000
const MAX_STEPS = 10_000
/** Characters of all values of one evaluation together: a loop over long texts must end soon, in little memory. */
const MAX_TOTAL_SIZE = 16 << 20
/** What an element of a list counts for, in characters. */
const ELEMENT_SIZE = 4

/** @throws ExpressionError */
export function compileExpression(text: string): Expression {
  if (text.length > MAX_EXPRESSION_LENGTH) {
    throw new ExpressionError(
      `an expression can have at most ${MAX_EXPRESSION_LENGTH} characters, got ${text.length}`,
    )
  }
  if (text.trim() === '') throw new ExpressionError('the expression is empty')
  const tree = rethrowAsExpressionError(() => parseExpression(text))
  return {
    evaluate: (variables) =>
      rethrowAsExpressionError(() => new ExpressionEvaluation(variables).evaluate(tree)),
  }
}

/** Recursion that is too deep, and an error of a function, are errors of the expression, too. */
function rethrowAsExpressionError<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (error instanceof ExpressionError) throw error
    throw new ExpressionError((error as Error).message)
  }
}

class ExpressionEvaluation {
  readonly #variables: Map<string, ExpressionValue>
  #steps = 0
  #totalSize = 0

  constructor(variables: Readonly<Record<string, ExpressionValue>>) {
    this.#variables = new Map(Object.entries(variables))
  }

  evaluate(node: ExpressionNode): ExpressionValue {
    if (++this.#steps > MAX_STEPS)
      throw new ExpressionError(`the expression takes more than ${MAX_STEPS} steps`)
    const value = checkValueSize(this.#evaluateNode(node))
    if (typeof value === 'string' || Array.isArray(value)) {
      this.#totalSize += typeof value === 'string' ? value.length : value.length * ELEMENT_SIZE
      if (this.#totalSize > MAX_TOTAL_SIZE)
        throw new ExpressionError(
          `the values of the expression have more than ${MAX_TOTAL_SIZE} characters`,
        )
    }
    return value
  }

  #evaluateNode(node: ExpressionNode): ExpressionValue {
    switch (node.is) {
      case 'value':
        return node.value
      case 'name':
        return this.#lookUp(node.name)
      case 'list':
        return node.items.map((one) => this.evaluate(one))
      case 'comprehension':
        return this.#comprehension(node.item, node.loops)
      case 'unary':
        return applyUnary(node.operator, this.evaluate(node.of))
      case 'binary':
        return this.#binary(node)
      case 'comparison':
        return this.#comparison(node)
      case 'choice':
        return this.evaluate(isTruthy(this.evaluate(node.test)) ? node.yes : node.no)
      case 'attribute':
        return this.#attribute(node)
      case 'item':
        return itemOf(this.evaluate(node.of), this.evaluate(node.at))
      case 'slice':
        return sliceOf(
          this.evaluate(node.of),
          node.bounds.map((one) => one && this.evaluate(one)),
        )
      case 'call':
        return this.#call(node)
    }
  }

  #lookUp(name: string): ExpressionValue {
    const variable = this.#variables.get(name)
    if (variable !== undefined) return variable
    const constant = EXPRESSION_NAMES.get(name)
    if (constant !== undefined && typeof constant !== 'function') return constant
    throw new ExpressionError(constant ? `${name} is a function: call it` : `there is no '${name}'`)
  }

  #binary({ operator, left, right }: ExpressionNode & { is: 'binary' }): ExpressionValue {
    const first = this.evaluate(left)
    if (operator === 'and') return isTruthy(first) ? this.evaluate(right) : first
    if (operator === 'or') return isTruthy(first) ? first : this.evaluate(right)
    return applyBinary(operator, first, this.evaluate(right))
  }

  #comparison({ first, rest }: ExpressionNode & { is: 'comparison' }): boolean {
    let left = this.evaluate(first)
    for (const { operator, right } of rest) {
      const next = this.evaluate(right)
      if (!applyComparison(operator, left, next)) return false
      left = next
    }
    return true
  }

  /** Each loop runs inside of the loop before. Its names are known only inside of it. */
  #comprehension(item: ExpressionNode, loops: readonly ComprehensionLoop[]): ExpressionValue[] {
    const found: ExpressionValue[] = []
    const run = (depth: number): void => {
      const loop = loops[depth]
      if (!loop) {
        found.push(this.evaluate(item))
        return
      }
      for (const one of elementsOf(this.evaluate(loop.iterated))) {
        this.#bind(loop.names, one)
        if (loop.tests.every((test) => isTruthy(this.evaluate(test)))) run(depth + 1)
      }
    }
    const names = loops.flatMap((loop) => loop.names)
    const before = names.map((name) => [name, this.#variables.get(name)] as const)
    run(0)
    for (const [name, value] of before) {
      if (value === undefined) this.#variables.delete(name)
      else this.#variables.set(name, value)
    }
    return found
  }

  #bind(names: readonly string[], value: ExpressionValue): void {
    const values = names.length === 1 ? [value] : elementsOf(value)
    if (values.length !== names.length) {
      throw new ExpressionError(`${names.join(', ')} cannot be taken from ${values.length} values`)
    }
    for (const [index, name] of names.entries())
      this.#variables.set(name, values[index] as ExpressionValue)
  }

  /** Reads `math.pi`, or `now.year` of a date. */
  #attribute(node: ExpressionNode & { is: 'attribute' }): ExpressionValue {
    const path = pathOf(node)
    if (path !== undefined && EXPRESSION_NAMES.has(path)) return this.#lookUp(path)
    const isKnown = path === undefined || this.#variables.has(path.split('.')[0] as string)
    if (!isKnown) return this.#lookUp(path)
    const of = this.evaluate(node.of)
    const part = of instanceof ExpressionDate ? of.getPart(node.name) : undefined
    if (part !== undefined) return part
    throw new ExpressionError(`a value has no property '${node.name}': it has only methods`)
  }

  #call({ of, given }: ExpressionNode & { is: 'call' }): ExpressionValue {
    const path = pathOf(of)
    const known = path === undefined ? undefined : EXPRESSION_NAMES.get(path)
    if (typeof known === 'function') return known(...given.map((one) => this.evaluate(one)))
    // `x.upper()`: a method of a text, a list or a date.
    const method = of.is === 'attribute' ? EXPRESSION_METHODS.get(of.name) : undefined
    if (of.is === 'attribute' && method) {
      const own = this.evaluate(of.of)
      return method(own, ...given.map((one) => this.evaluate(one)))
    }
    throw new ExpressionError(`there is no function '${path ?? 'of that kind'}'`)
  }
}

/** The dotted name of a node, such as `os.path.join`. */
function pathOf(node: ExpressionNode): string | undefined {
  if (node.is === 'name') return node.name
  if (node.is !== 'attribute') return undefined
  const before = pathOf(node.of)
  return before === undefined ? undefined : `${before}.${node.name}`
}

function elementsOf(value: ExpressionValue): readonly ExpressionValue[] {
  if (Array.isArray(value)) return value
  if (typeof value === 'string') return [...value]
  throw new ExpressionError('a loop needs a list or a text')
}

function itemOf(from: ExpressionValue, at: ExpressionValue): ExpressionValue {
  if ((typeof from !== 'string' && !Array.isArray(from)) || !Number.isInteger(at)) {
    throw new ExpressionError('[n] needs a text or a list, and n must be a whole number')
  }
  const found = from.at(at as number)
  if (found === undefined)
    throw new ExpressionError(`[${at as number}] is beyond the end of the list or text`)
  return found
}

function sliceOf(
  from: ExpressionValue,
  bounds: readonly (ExpressionValue | undefined)[],
): ExpressionValue {
  const [start, stop, step = 1] = bounds.map((one) => {
    if (one === undefined || one === null) return undefined
    if (Number.isSafeInteger(one)) return one as number
    throw new ExpressionError('the numbers of a slice must be whole: x[1:3]')
  })
  if (step === 0) throw new ExpressionError('the step of a slice must not be 0')
  if (typeof from === 'string') return takeSlice([...from], start, stop, step).join('')
  if (Array.isArray(from)) return takeSlice(from, start, stop, step)
  throw new ExpressionError('[from:to] needs a text or a list')
}
