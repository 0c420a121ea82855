/**
 * `{= expr of x =}`: arithmetic and text, read by jsep and evaluated here, never by `eval`. There are no objects but
 * the tables below and no property but the ones named here, so there is no way out; steps and sizes are bounded.
 */
import jsep from 'jsep'
import { METHODS, NAMES, type Value } from './functions.ts'

/** An expression that cannot be read, or has no value for this line. */
export class ExpressionError extends Error {
  override readonly name = 'ExpressionError'
}

export interface Expression {
  /** @throws ExpressionError */
  evaluate(variables: Readonly<Record<string, Value>>): Value
}

/** Longest expression in characters, most steps of one evaluation, longest text or list in it. */
const LONGEST = 10_000
const MOST_STEPS = 10_000
const LARGEST = 1_048_576

// As in Python; jsep knows JavaScript's. One reader for all: these are the same for each expression.
jsep.addBinaryOp('**', 11, true)
jsep.addBinaryOp('//', 10)
jsep.addBinaryOp('and', 2)
jsep.addBinaryOp('or', 1)
jsep.addBinaryOp('in', 7)
jsep.addUnaryOp('not')
jsep.addLiteral('True', true)
jsep.addLiteral('False', false)
jsep.addLiteral('None', null)

/** @throws ExpressionError */
export function compileExpression(text: string): Expression {
  if (text.length > LONGEST) {
    throw new ExpressionError(`an expression has at most ${LONGEST} characters`)
  }
  if (text.trim() === '') throw new ExpressionError('the expression is empty')
  let tree: jsep.Expression
  try {
    tree = jsep(text)
  } catch (error) {
    throw new ExpressionError((error as Error).message)
  }
  return {
    evaluate(variables) {
      const walk = new Walk(variables)
      try {
        return walk.value(tree)
      } catch (error) {
        if (error instanceof ExpressionError) throw error
        // Recursion that is too deep, or a refusal of a table's function.
        throw new ExpressionError((error as Error).message)
      }
    },
  }
}

type Node = jsep.Expression & Record<string, unknown>

class Walk {
  readonly #variables: Readonly<Record<string, Value>>
  #steps = 0

  constructor(variables: Readonly<Record<string, Value>>) {
    this.#variables = variables
  }

  value(tree: jsep.Expression): Value {
    if (++this.#steps > MOST_STEPS) throw new ExpressionError('the expression takes too long')
    return held(this.#of(tree as Node))
  }

  #of(node: Node): Value {
    switch (node.type) {
      case 'Literal':
        return literal(node.value)
      case 'Identifier':
        return this.#named(node.name as string)
      case 'ArrayExpression':
        return (node.elements as jsep.Expression[]).map((one) => this.value(one))
      case 'UnaryExpression':
        return unary(node.operator as string, this.value(node.argument as jsep.Expression))
      case 'LogicalExpression':
      case 'BinaryExpression':
        return this.#binary(node)
      case 'ConditionalExpression':
        return this.value(
          (truth(this.value(node.test as jsep.Expression))
            ? node.consequent
            : node.alternate) as jsep.Expression,
        )
      case 'MemberExpression':
        return this.#member(node)
      case 'CallExpression':
        return this.#call(node)
      default:
        throw new ExpressionError(
          node.type === 'Compound'
            ? 'one expression is wanted, there are several'
            : `an expression cannot have a ${String(node.type)}`,
        )
    }
  }

  #named(name: string): Value {
    if (Object.hasOwn(this.#variables, name)) return this.#variables[name] as Value
    const constant = NAMES.get(name)
    if (constant !== undefined && typeof constant !== 'function') return constant
    throw new ExpressionError(constant ? `${name} is a function: call it` : `there is no '${name}'`)
  }

  #binary(node: Node): Value {
    const operator = node.operator as string
    const left = this.value(node.left as jsep.Expression)
    if (operator === '&&' || operator === 'and') {
      return truth(left) ? this.value(node.right as jsep.Expression) : left
    }
    if (operator === '||' || operator === 'or') {
      return truth(left) ? left : this.value(node.right as jsep.Expression)
    }
    return binary(operator, left, this.value(node.right as jsep.Expression))
  }

  /** `math.pi`, or `words[0]`, `text[-1]`. */
  #member(node: Node): Value {
    if (!node.computed) return this.#named(path(node))
    const from = this.value(node.object as jsep.Expression)
    const at = this.value(node.property as jsep.Expression)
    if ((typeof from !== 'string' && !Array.isArray(from)) || !Number.isInteger(at)) {
      throw new ExpressionError('only texts and lists have [n], n a whole number')
    }
    const found = from.at(at as number)
    if (found === undefined) throw new ExpressionError(`[${at as number}] is beyond its end`)
    return found
  }

  #call(node: Node): Value {
    const callee = node.callee as Node
    const given = (node.arguments as jsep.Expression[]).map((one) => this.value(one))
    const name = callee.type === 'Identifier' ? (callee.name as string) : tryPath(callee)
    const known = name === undefined ? undefined : NAMES.get(name)
    if (typeof known === 'function') return known(...given)
    // `x.upper()`: a method of a text or list.
    if (callee.type === 'MemberExpression' && !callee.computed) {
      const method = ((callee.property as Node).name ?? '') as string
      const found = METHODS.get(method)
      if (found) return found(this.value(callee.object as jsep.Expression), ...given)
    }
    throw new ExpressionError(`there is no function '${name ?? 'of that kind'}'`)
  }
}

function path(node: Node): string {
  const found = tryPath(node)
  if (found === undefined) throw new ExpressionError('a value has no properties, only methods')
  return found
}

/** `os.path.join` of its tree. */
function tryPath(node: Node): string | undefined {
  if (node.type === 'Identifier') return node.name as string
  if (node.type !== 'MemberExpression' || node.computed) return undefined
  const before = tryPath(node.object as Node)
  return before === undefined ? undefined : `${before}.${(node.property as Node).name as string}`
}

function literal(value: unknown): Value {
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
    return value
  }
  if (value === null) return value
  throw new ExpressionError('only texts, numbers, True, False and None can be written')
}

function held(value: Value): Value {
  if ((typeof value === 'string' || Array.isArray(value)) && value.length > LARGEST) {
    throw new ExpressionError(`a value is larger than ${LARGEST}`)
  }
  return value
}

function truth(value: Value): boolean {
  return Array.isArray(value) ? value.length > 0 : Boolean(value)
}

function numeric(operator: string, value: Value): number {
  if (typeof value === 'number') return value
  if (typeof value === 'boolean') return Number(value)
  throw new ExpressionError(`${operator} wants numbers, got ${JSON.stringify(value)?.slice(0, 80)}`)
}

function unary(operator: string, value: Value): Value {
  if (operator === '!' || operator === 'not') return !truth(value)
  const number = numeric(operator, value)
  if (operator === '-') return -number
  if (operator === '+') return number
  if (operator === '~') return ~number
  throw new ExpressionError(`there is no operator ${operator}`)
}

function binary(operator: string, left: Value, right: Value): Value {
  switch (operator) {
    case '==':
    case '===':
      return same(left, right)
    case '!=':
    case '!==':
      return !same(left, right)
    case '+':
      return added(left, right)
    case '*':
      return multiplied(left, right)
    case 'in':
      return contains(right, left)
    case '<':
    case '<=':
    case '>':
    case '>=':
      return compared(operator, left, right)
    default:
      return arithmetic(operator, numeric(operator, left), numeric(operator, right))
  }
}

function same(left: Value, right: Value): boolean {
  return JSON.stringify(left) === JSON.stringify(right)
}

function added(left: Value, right: Value): Value {
  if (typeof left === 'string' || typeof right === 'string') {
    // Unlike in Python, a number joins a text: x is a number where the line looks like one.
    return held(toText(left) + toText(right))
  }
  if (Array.isArray(left) && Array.isArray(right)) return [...left, ...right]
  return finite(numeric('+', left) + numeric('+', right))
}

function multiplied(left: Value, right: Value): Value {
  const [text, times] = typeof left === 'string' ? [left, right] : [right, left]
  if (typeof text !== 'string') return finite(numeric('*', left) * numeric('*', right))
  const count = Math.max(0, Math.trunc(numeric('*', times)))
  if (text.length * count > LARGEST) throw new ExpressionError(`a text is longer than ${LARGEST}`)
  return text.repeat(count)
}

function contains(where: Value, what: Value): boolean {
  if (typeof where === 'string') return where.includes(toText(what))
  if (Array.isArray(where)) return where.some((one) => same(one, what))
  throw new ExpressionError('in wants a text or a list')
}

function compared(operator: string, left: Value, right: Value): boolean {
  const texts = typeof left === 'string' && typeof right === 'string'
  const [a, b] = texts ? [left, right] : [numeric(operator, left), numeric(operator, right)]
  if (operator === '<') return a < b
  if (operator === '<=') return a <= b
  return operator === '>' ? a > b : a >= b
}

function arithmetic(operator: string, a: number, b: number): number {
  if (['/', '//', '%'].includes(operator) && b === 0) throw new ExpressionError('division by zero')
  switch (operator) {
    case '-':
      return finite(a - b)
    case '/':
      return finite(a / b)
    case '//':
      return finite(Math.floor(a / b))
    case '%':
      // The sign of the divisor, as in Python.
      return finite(((a % b) + b) % b)
    case '**':
      return finite(a ** b)
    case '&':
      return a & b
    case '|':
      return a | b
    case '^':
      return a ^ b
    case '<<':
      return a << b
    case '>>':
      return a >> b
    case '>>>':
      return a >>> b
    default:
      throw new ExpressionError(`there is no operator ${operator}`)
  }
}

function finite(value: number): number {
  if (Number.isFinite(value)) return value
  throw new ExpressionError('the result is no finite number')
}

/** How a value stands in a command. */
export function toText(value: Value): string {
  if (typeof value === 'string') return value
  if (value === null) return 'None'
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  return Array.isArray(value) ? value.map(toText).join(' ') : String(value)
}
