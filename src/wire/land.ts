/**
 * Landing: what posted code does here. It is read whole before any of it happens, and is calls of exposed names with
 * literal arguments, exposed values, literals, and assignments of them to names of its own; nothing is evaluated.
 */
import { notAllowed, Reader } from './literal.ts'
import type { Environment } from './names.ts'

interface Call {
  readonly function: (...args: unknown[]) => unknown
  readonly args: unknown[]
}

interface Step {
  readonly call?: Call
  readonly value?: unknown
}

const KEYWORDS = new Set(
  (
    'and as assert async await break class continue def del elif else except exec finally for from global if import in is ' +
    'lambda nonlocal not or pass raise return try while with yield function var let const new eval typeof this'
  ).split(' '),
)

/** Calls a function, so that it finds its conversation. */
type Invoke = (call: () => unknown) => unknown

/**
 * Lands code; the value of its last statement, or a promise of it where a function answers with one.
 * @throws ManyhostError MANYHOST_WIRE_CODE, and whatever the functions throw
 */
export function land(code: string, environment: Environment, invoke: Invoke): unknown {
  return run(read(code, environment), 0, invoke)
}

/** The name of the first call, for reports. */
export function read(code: string, environment: Environment): Step[] {
  const assigned = new Map<string, unknown>()
  const reader = new Reader(code, (name) =>
    assigned.has(name) ? assigned.get(name) : environment.value(name),
  )
  const steps: Step[] = []
  for (;;) {
    reader.skip()
    const char = code[reader.at]
    if (char === undefined) break
    if (char === '\n' || char === '\r' || char === ';') {
      reader.at++
      continue
    }
    steps.push(statement(reader, environment, assigned))
    reader.skip()
    const end = code[reader.at]
    if (end !== undefined && end !== '\n' && end !== '\r' && end !== ';') throw reader.unexpected()
  }
  for (const [name, value] of assigned) environment.variables.set(name, value)
  return steps
}

function statement(reader: Reader, environment: Environment, assigned: Map<string, unknown>): Step {
  const begin = reader.at
  const name = reader.name()
  if (name) {
    reader.skip()
    const next = reader.code[reader.at]
    if (KEYWORDS.has(name) && next !== '(' && next !== '=') throw notAllowed(`\`${name}\``)
    if (next === '(') {
      // The wrappers of JSON, and `set()`, are literals where nothing of that name is exposed.
      const isLiteral =
        /^(?:JSONObj|JSONArray|JSONStr|set)$/.test(name) && !environment.names.includes(name)
      if (!isLiteral) {
        const callee = environment.function(name)
        reader.at++
        return { call: { function: callee, args: reader.arguments() } }
      }
    } else if (next === '=' && reader.code[reader.at + 1] !== '=') {
      environment.mayAssign(name, assigned.size)
      reader.at++
      assigned.set(name, reader.value())
      return {}
    }
    reader.at = begin
  }
  return { value: reader.value() }
}

function run(steps: readonly Step[], from: number, invoke: Invoke): unknown {
  let result: unknown
  for (let i = from; i < steps.length; i++) {
    const { call, value } = steps[i] as Step
    result = call ? invoke(() => call.function(...call.args)) : value
    if (call && isPromise(result) && i < steps.length - 1) {
      return result.then(() => run(steps, i + 1, invoke))
    }
  }
  return result
}

export function isPromise(value: unknown): value is Promise<unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as Promise<unknown>).then === 'function'
  )
}
