/** JSON Schemas, of draft 4 unless `$schema` says a later one. They come from outside, as what they check does. */
import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import type { Ajv, AnySchema, Options, ValidateFunction } from 'ajv'
import { createRefusal, isMapping, type ParsedJson, Refusal } from './json.ts'
import { explainSchemaError } from './schema-messages.ts'
import { runWithTimeLimit, TimeLimitError } from './time-limit.ts'

type AjvClass = new (options: Options) => Ajv

/** They are CommonJS, and only who is given a schema pays for loading them. */
const require = createRequire(import.meta.url)
const LIBRARIES = {
  'ajv-draft-04': () => require('ajv-draft-04'),
  ajv: () => require('ajv'),
  'ajv/dist/2019': () => require('ajv/dist/2019'),
  'ajv/dist/2020': () => require('ajv/dist/2020'),
} as const satisfies Record<string, () => unknown>
type Library = keyof typeof LIBRARIES

const DRAFTS: Readonly<Record<string, Library>> = {
  '': 'ajv-draft-04',
  'http://json-schema.org/schema': 'ajv-draft-04',
  'http://json-schema.org/draft-04/schema': 'ajv-draft-04',
  'http://json-schema.org/draft-06/schema': 'ajv',
  'http://json-schema.org/draft-07/schema': 'ajv',
  'https://json-schema.org/draft/2019-09/schema': 'ajv/dist/2019',
  'https://json-schema.org/draft/2020-12/schema': 'ajv/dist/2020',
}

const OPTIONS: Options = {
  strict: false,
  logger: false,
  verbose: true,
  // One error is enough: to look for all of them is what a hostile value would want.
  allErrors: false,
  ownProperties: true,
  unicodeRegExp: false,
  addUsedSchema: false,
}

/** Bytes of a schema. */
const MAX_SCHEMA_LENGTH = 65_536
/** Milliseconds that it may take to be compiled. */
const MAX_COMPILE_TIME = 1_000
/** Schemas that are kept compiled. */
const MAX_COMPILED = 256
/** Values of the schema times values of the input that are checked without a guard. */
const MAX_CHEAP_COST = 200_000
/** Parts of a schema up to which it counts as small. */
const MAX_SIMPLE_WEIGHT = 500
/** What can cost more than the product of both sizes says. */
const COSTLY_KEYWORDS =
  /"(?:pattern|patternProperties|uniqueItems|format|contains|unevaluated\w+|\$(?:dynamic|recursive)?[rR]ef)":/

/** Whether compiling the schema, and checking by it, costs no more than its size says, and its size is small. */
export function isSimpleSchema(text: string): boolean {
  return !COSTLY_KEYWORDS.test(text) && countParts(text) <= MAX_SIMPLE_WEIGHT
}

function countParts(text: string): number {
  return text.split(/[,{[]/).length
}

export interface JsonSchema {
  readonly value: Readonly<Record<string, unknown>>
  /** Whether a check of that input takes microseconds. */
  isCheap(input: ParsedJson): boolean
  /** @throws Refusal 400 that says what is wrong and where */
  check(input: ParsedJson): void
}

const draftValidators = new Map<string, Ajv>()
const compiledSchemas = new Map<string, JsonSchema>()

/**
 * What checks by that schema.
 * @throws Refusal 400 for what is no schema
 */
export function compileSchema(value: unknown, name = 'schema'): JsonSchema {
  const wrong = (why: string): Refusal =>
    createRefusal(400, 'Invalid JSON Schema', `${name} is not a valid JSON Schema: ${why}`)
  if (!isMapping(value)) throw wrong('it is not an object')
  const text = JSON.stringify(value)
  if (text.length > MAX_SCHEMA_LENGTH) throw wrong(`it has more than ${MAX_SCHEMA_LENGTH} bytes`)
  const key = createHash('sha256').update(text).digest('base64')
  const known = compiledSchemas.get(key)
  if (known) return known
  try {
    const schema = compileWithDraft(value, text)
    if (compiledSchemas.size >= MAX_COMPILED)
      compiledSchemas.delete(compiledSchemas.keys().next().value as string)
    compiledSchemas.set(key, schema)
    return schema
  } catch (error) {
    throw wrong((error as Error).message.slice(0, 500))
  }
}

function compileWithDraft(value: Readonly<Record<string, unknown>>, text: string): JsonSchema {
  // Such a schema answers with a promise, which is true whatever it will say.
  if (text.includes('"$async":')) throw new Error('$async is not supported')
  const { $schema = '' } = value
  const draft = typeof $schema === 'string' ? $schema.replace(/#$/, '') : undefined
  const library = draft === undefined || !Object.hasOwn(DRAFTS, draft) ? undefined : DRAFTS[draft]
  if (!library) throw new Error(`$schema is ${JSON.stringify($schema)}, which is no known draft`)
  const Draft = loadAjvClass(library)
  const judge = draftValidators.get(library) ?? new Draft(OPTIONS)
  // The draft itself is compiled once, on nobody's account.
  if (!draftValidators.has(library)) judge.validateSchema({})
  draftValidators.set(library, judge)
  // It is judged by the library's own draft: of the drafts that share one, only the newest is known to it.
  const { $schema: _, ...bare } = value
  const isValid = runWithTimeLimit(() => judge.validateSchema(bare as AnySchema), MAX_COMPILE_TIME)
  if (isValid !== true) throw new Error(judge.errorsText(judge.errors))
  // An instance of its own: what one schema defines by `$id` is none of the next one's, and goes with it.
  const ajv = new Draft({ ...OPTIONS, meta: false, validateSchema: false })
  addFormats(ajv)
  const validate = runWithTimeLimit(() => ajv.compile(bare as AnySchema), MAX_COMPILE_TIME)
  const weight = countParts(text)
  const isCostly = COSTLY_KEYWORDS.test(text)
  const isCheap = ({ count }: ParsedJson): boolean => !isCostly && weight * count <= MAX_CHEAP_COST
  return { value, isCheap, check: (input) => checkInput(validate, input, isCheap(input)) }
}

function loadAjvClass(library: Library): AjvClass {
  const loaded = LIBRARIES[library]() as { default: AjvClass }
  return loaded.default
}

function addFormats(ajv: Ajv): void {
  const { default: add } = require('ajv-formats') as { default: (ajv: Ajv) => Ajv }
  add(ajv)
}

function checkInput(validate: ValidateFunction, input: ParsedJson, isCheap: boolean): void {
  let isValid: unknown
  try {
    const run = (): unknown => validate(input.value)
    isValid = isCheap ? run() : runWithTimeLimit(run)
  } catch (error) {
    const detail =
      error instanceof TimeLimitError ? `the check was ended: ${error.message}` : 'the check failed'
    throw createRefusal(400, 'JSONSchema Validation Error', detail)
  }
  if (isValid === true) return
  const [error] = validate.errors ?? []
  throw new Refusal([
    {
      title: 'JSONSchema Validation Error',
      detail: `Validation of schema [] threw error ${error ? explainSchemaError(error) : 'it does not match'}`,
      status_code: 400,
      source: { pointer: error?.instancePath ?? '' },
    },
  ])
}
