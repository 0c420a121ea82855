/**
 * Landing: executes code that the peer posted. The code is parsed completely before any of it is executed. It consists of
 * calls of exposed names with literal arguments, of exposed values, of literals, and of assignments of values to names of
 * the peer's own. Nothing else is evaluated.
 */
import { isPromiseLike } from '../core/promise.ts'
import { createNotAllowedError } from './errors.ts'
import { LiteralReader } from './literal.ts'
import type { LandingEnvironment } from './names.ts'

interface LandedCall {
  readonly function: (...args: unknown[]) => unknown
  readonly args: unknown[]
}

interface LandedStatement {
  readonly call?: LandedCall
  readonly value?: unknown
}

const KEYWORDS = new Set(
  (
    'and as assert async await break class continue def del elif else except exec finally for from global if import in is ' +
    'lambda nonlocal not or pass raise return try while with yield function var let const new eval typeof this'
  ).split(' '),
)

/** Makes a call in such a way that the called function finds its conversation in `ho.co`. */
type InvokeCall = (call: () => unknown) => unknown

/**
 * Lands code.
 * @returns the value of its last statement, or a promise of it if a called function returns a promise
 * @throws ManyhostError MANYHOST_WIRE_CODE, and whatever the called functions throw
 */
export function land(code: string, environment: LandingEnvironment, invoke: InvokeCall): unknown {
  return runStatements(parseStatements(code, environment), 0, invoke)
}

/** Parses all statements. Assignments take effect when all of them are parsed. @throws ManyhostError MANYHOST_WIRE_CODE */
function parseStatements(code: string, environment: LandingEnvironment): LandedStatement[] {
  const assigned = new Map<string, unknown>()
  const reader = new LiteralReader(code, (name) =>
    assigned.has(name) ? assigned.get(name) : environment.requireValue(name),
  )
  const statements: LandedStatement[] = []
  for (;;) {
    reader.skipBlanks()
    const char = code[reader.offset]
    if (char === undefined) break
    if (char === '\n' || char === '\r' || char === ';') {
      reader.offset++
      continue
    }
    statements.push(parseStatement(reader, environment, assigned))
    reader.skipBlanks()
    const end = code[reader.offset]
    if (end !== undefined && end !== '\n' && end !== '\r' && end !== ';')
      throw reader.createUnexpectedError()
  }
  for (const [name, value] of assigned) environment.variables.set(name, value)
  return statements
}

function parseStatement(
  reader: LiteralReader,
  environment: LandingEnvironment,
  assigned: Map<string, unknown>,
): LandedStatement {
  const begin = reader.offset
  const name = reader.readName()
  if (name) {
    reader.skipBlanks()
    const next = reader.code[reader.offset]
    if (KEYWORDS.has(name) && next !== '(' && next !== '=')
      throw createNotAllowedError(`\`${name}\``)
    if (next === '(') {
      // The wrappers of JSON, and `set()`, are literals unless a function of that name is exposed.
      const isLiteral =
        /^(?:JSONObj|JSONArray|JSONStr|set)$/.test(name) && !environment.exposedNames.includes(name)
      if (!isLiteral) {
        const callee = environment.requireFunction(name)
        reader.offset++
        return { call: { function: callee, args: reader.readArguments() } }
      }
    } else if (next === '=' && reader.code[reader.offset + 1] !== '=') {
      environment.assertMayAssign(name, assigned.size)
      reader.offset++
      assigned.set(name, reader.readValue())
      return {}
    }
    reader.offset = begin
  }
  return { value: reader.readValue() }
}

function runStatements(
  statements: readonly LandedStatement[],
  firstIndex: number,
  invoke: InvokeCall,
): unknown {
  let result: unknown
  for (let i = firstIndex; i < statements.length; i++) {
    const { call, value } = statements[i] as LandedStatement
    result = call ? invoke(() => call.function(...call.args)) : value
    if (call && isPromiseLike(result) && i < statements.length - 1) {
      return result.then(() => runStatements(statements, i + 1, invoke))
    }
  }
  return result
}
