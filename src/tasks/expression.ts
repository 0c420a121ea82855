/**
 * `{= expr of x =}`: arithmetic and text as in Python, read by `expression-parser.ts` and evaluated here, never by `eval`.
 * There are no objects but the tables of `functions.ts` and no property but the ones named there, so there is no way out;
 * steps and sizes are bounded.
 */
import { type Loop, type Node, parseExpression } from './expression-parser.ts'
import { METHODS, NAMES, type Value } from './functions.ts'
import { Moment } from './moment.ts'
import { binary, comparison, ExpressionError, held, isTrue, unary } from './operators.ts'
import { sliced } from './slice.ts'

export { ExpressionError, toText } from './operators.ts'

export interface Expression {
  /** @throws ExpressionError */
  evaluate(variables: Readonly<Record<string, Value>>): Value
}

/** Longest expression in characters, most steps of one evaluation. */
const LONGEST = 10_000
const MOST_STEPS = 10_000
/** Characters of all values of one evaluation: a loop over long texts must end soon, in little memory. */
const MOST_MADE = 16 << 20
/** What an element of a list counts for, in characters. */
const ELEMENT = 4

/** @throws ExpressionError */
export function compileExpression(text: string): Expression {
  if (text.length > LONGEST) {
    throw new ExpressionError(`an expression has at most ${LONGEST} characters`)
  }
  if (text.trim() === '') throw new ExpressionError('the expression is empty')
  const tree = explained(() => parseExpression(text))
  return { evaluate: (variables) => explained(() => new Walk(variables).value(tree)) }
}

/** Recursion that is too deep, or a refusal of a table's function, is an error of the expression, too. */
function explained<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (error instanceof ExpressionError) throw error
    throw new ExpressionError((error as Error).message)
  }
}

class Walk {
  readonly #variables: Map<string, Value>
  #steps = 0
  #size = 0

  constructor(variables: Readonly<Record<string, Value>>) {
    this.#variables = new Map(Object.entries(variables))
  }

  value(node: Node): Value {
    if (++this.#steps > MOST_STEPS) throw new ExpressionError('the expression takes too long')
    const value = held(this.#of(node))
    if (typeof value === 'string' || Array.isArray(value)) {
      this.#size += typeof value === 'string' ? value.length : value.length * ELEMENT
      if (this.#size > MOST_MADE) throw new ExpressionError('the expression makes too much')
    }
    return value
  }

  #of(node: Node): Value {
    switch (node.is) {
      case 'value':
        return node.value
      case 'name':
        return this.#named(node.name)
      case 'list':
        return node.items.map((one) => this.value(one))
      case 'comprehension':
        return this.#comprehended(node.item, node.loops)
      case 'unary':
        return unary(node.operator, this.value(node.of))
      case 'binary':
        return this.#binary(node)
      case 'comparison':
        return this.#compared(node)
      case 'choice':
        return this.value(isTrue(this.value(node.test)) ? node.yes : node.no)
      case 'attribute':
        return this.#attribute(node)
      case 'item':
        return itemOf(this.value(node.of), this.value(node.at))
      case 'slice':
        return sliceOf(
          this.value(node.of),
          node.bounds.map((one) => one && this.value(one)),
        )
      case 'call':
        return this.#call(node)
    }
  }

  #named(name: string): Value {
    const variable = this.#variables.get(name)
    if (variable !== undefined) return variable
    const constant = NAMES.get(name)
    if (constant !== undefined && typeof constant !== 'function') return constant
    throw new ExpressionError(constant ? `${name} is a function: call it` : `there is no '${name}'`)
  }

  #binary({ operator, left, right }: Node & { is: 'binary' }): Value {
    const first = this.value(left)
    if (operator === 'and') return isTrue(first) ? this.value(right) : first
    if (operator === 'or') return isTrue(first) ? first : this.value(right)
    return binary(operator, first, this.value(right))
  }

  #compared({ first, rest }: Node & { is: 'comparison' }): boolean {
    let left = this.value(first)
    for (const { operator, right } of rest) {
      const next = this.value(right)
      if (!comparison(operator, left, next)) return false
      left = next
    }
    return true
  }

  /** Each loop inside the one before; its names are known within alone. */
  #comprehended(item: Node, loops: readonly Loop[]): Value[] {
    const found: Value[] = []
    const run = (depth: number): void => {
      const loop = loops[depth]
      if (!loop) {
        found.push(this.value(item))
        return
      }
      for (const one of elementsOf(this.value(loop.from))) {
        this.#bind(loop.names, one)
        if (loop.tests.every((test) => isTrue(this.value(test)))) run(depth + 1)
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

  #bind(names: readonly string[], value: Value): void {
    const values = names.length === 1 ? [value] : elementsOf(value)
    if (values.length !== names.length) {
      throw new ExpressionError(`${names.join(', ')} cannot be taken from ${values.length} values`)
    }
    for (const [index, name] of names.entries()) this.#variables.set(name, values[index] as Value)
  }

  /** `math.pi`, or `now.year` of a date. */
  #attribute(node: Node & { is: 'attribute' }): Value {
    const path = pathOf(node)
    if (path !== undefined && NAMES.has(path)) return this.#named(path)
    const isKnown = path === undefined || this.#variables.has(path.split('.')[0] as string)
    if (!isKnown) return this.#named(path)
    const of = this.value(node.of)
    const part = of instanceof Moment ? of.part(node.name) : undefined
    if (part !== undefined) return part
    throw new ExpressionError(`a value has no properties, only methods: no '${node.name}'`)
  }

  #call({ of, given }: Node & { is: 'call' }): Value {
    const path = pathOf(of)
    const known = path === undefined ? undefined : NAMES.get(path)
    if (typeof known === 'function') return known(...given.map((one) => this.value(one)))
    // `x.upper()`: a method of a text, a list or a date.
    const method = of.is === 'attribute' ? METHODS.get(of.name) : undefined
    if (of.is === 'attribute' && method) {
      const own = this.value(of.of)
      return method(own, ...given.map((one) => this.value(one)))
    }
    throw new ExpressionError(`there is no function '${path ?? 'of that kind'}'`)
  }
}

/** `os.path.join` of its tree. */
function pathOf(node: Node): string | undefined {
  if (node.is === 'name') return node.name
  if (node.is !== 'attribute') return undefined
  const before = pathOf(node.of)
  return before === undefined ? undefined : `${before}.${node.name}`
}

function elementsOf(value: Value): readonly Value[] {
  if (Array.isArray(value)) return value
  if (typeof value === 'string') return [...value]
  throw new ExpressionError('a loop goes over a list or a text')
}

function itemOf(from: Value, at: Value): Value {
  if ((typeof from !== 'string' && !Array.isArray(from)) || !Number.isInteger(at)) {
    throw new ExpressionError('only texts and lists have [n], n a whole number')
  }
  const found = from.at(at as number)
  if (found === undefined) throw new ExpressionError(`[${at as number}] is beyond its end`)
  return found
}

function sliceOf(from: Value, bounds: readonly (Value | undefined)[]): Value {
  const [start, stop, step = 1] = bounds.map((one) => {
    if (one === undefined || one === null) return undefined
    if (Number.isSafeInteger(one)) return one as number
    throw new ExpressionError('a slice has whole numbers: x[1:3]')
  })
  if (step === 0) throw new ExpressionError('the step of a slice is not 0')
  if (typeof from === 'string') return sliced([...from], start, stop, step).join('')
  if (Array.isArray(from)) return sliced(from, start, stop, step)
  throw new ExpressionError('only texts and lists have [from:to]')
}
